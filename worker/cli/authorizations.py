"""The command that lists authorizations."""

from typing import Annotated

import typer

from models.oauth.authorization import Step
from worker.cli.context import load_settings, opened_store
from worker.cli.output import AsJson, make_table, print_json, print_rich, print_warning, report_errors
from worker.operations.story import shown_fields

columns = ("id", "user_id", "provider", "step", "created_at", "due_at", "reason", "description")
most_listed = 1000


@report_errors
def authorizations(
    status: Annotated[Step | None, typer.Option(help="Only authorizations at this step.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user's.")] = None,
    as_json: AsJson = False,
) -> None:
    """List authorizations that made no connection (yet), newest first, with the reason."""
    with opened_store(load_settings()) as store, store.reading() as tx:
        found = tx.authorizations.find(user, status, most_listed)
    if as_json:
        print_json([{name: getattr(each, name) for name in shown_fields} for each in found])
        return
    head = [name.removesuffix("_at").replace("_", " ") for name in columns]
    print_rich(make_table(head, [[getattr(each, name) for name in columns] for each in found]))
    if len(found) == most_listed:
        print_warning(f"Only the newest {most_listed} are shown. Narrow them down with --user or --status.")
