"""`breezesync confirm`: what an application confirms, typed by hand."""

from typing import Annotated

import typer

from models.audit.entry import Channel
from models.crypto.secrets import Secret
from models.messaging.commands import Confirm
from models.oauth.confirmation import Verdict
from models.store.confirming import confirm as carry_out
from worker.cli.context import load_settings, opened_store
from worker.cli.output import AsJson, CommandFailed, NotFound, print_json, print_line, report_errors


@report_errors
def confirm(
    authorization: Annotated[str, typer.Argument(metavar="AUTHORIZATION", help="The authorization's id.")],
    user: Annotated[str, typer.Option(help="The user who is logged in to the application in that browser.")],
    confirmation: Annotated[str, typer.Option(help="The value that the browser brought to return_to.")],
    as_json: AsJson = False,
) -> None:
    """Confirm that the browser which brought an authorization's code is the user's; anything wrong ends it."""
    given = Confirm(authorization, user, Secret(confirmation))
    with opened_store(load_settings()) as store, store.writing() as tx:
        verdict = carry_out(tx, given, tx.overview.time(), Channel.cli)
    match verdict:
        case Verdict.unknown:
            raise NotFound(f"There is no authorization {authorization}. List them with breezesync authorizations.")
        case Verdict.not_awaited:
            raise CommandFailed(f"It waits for no confirmation: breezesync explain {authorization} says how it is.")
        case Verdict.refused:
            why = "another user, a wrong confirmation, or too late"
            raise CommandFailed(f"Not confirmed: {why}. The authorization has ended, and its code is erased.")
    if as_json:
        print_json({"authorization_id": authorization, "verdict": verdict.value})
    else:
        print_line(f"Confirmed; the code is exchanged now. Follow it with breezesync explain {authorization}")
