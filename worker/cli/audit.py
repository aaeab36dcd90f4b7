"""`breezesync audit`: who did what with whose tokens, and whether the chain of those lines is whole."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import date, datetime
from typing import Annotated

import typer
from rich.markup import escape

from models.audit.chain import Line, as_json, kept
from models.audit.entry import Action
from models.audit.verify import Verdict
from models.audit.verify import verify as verify_chain
from models.journal import sentence_of
from models.store import Store
from models.store.audit import Wanted
from worker.cli.context import load_settings, opened_store
from worker.cli.events import read_time
from worker.cli.output import AsJson, CommandFailed, print_json, print_line, report_errors, screen
from worker.operations.story import format_evidence
from worker.operations.texts import to_text

Since = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="TIME", help="ISO 8601, in UTC if it has no offset; or a length of time before now, as 2h."
    ),
]

shown_first = 100


@report_errors
def audit(
    context: typer.Context,
    since: Since = None,
    user: Annotated[str | None, typer.Option(help="Only lines about this user.")] = None,
    connection: Annotated[str | None, typer.Option(help="Only lines about this connection.")] = None,
    action: Annotated[Action | None, typer.Option(help="Only this action, such as token.refreshed.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help=f"Only the newest N; {shown_first} without --since.", metavar="N")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what was done with whose tokens and by whom, oldest first. With --json, one JSON document a line."""
    if context.invoked_subcommand is not None:
        return
    wanted = {"user_id": user, "connection_id": connection, "action": None if action is None else action.value}
    with opened_store(load_settings()) as store:
        with store.reading() as tx:
            start = None if since is None else read_time(since, tx.overview.time())
        try:
            for line in _read(store, wanted, start, shown_first if start is None and limit is None else limit):
                _show(line, as_json)
        except BrokenPipeError:
            raise CommandFailed("The program that was reading the lines closed its input.") from None


@report_errors
def verify(
    since: Since = None,
    head: Annotated[
        str | None, typer.Option(metavar="HASH", help="A head that was noted earlier: it must be in the chain.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find lines that were removed, changed or inserted. Exits with 1 and their places if there are any."""
    with opened_store(load_settings()) as store, store.reading() as tx:
        tx.audit.fix_snapshot()
        now = tx.overview.time()
        start = (now - kept).date() if since is None else max(read_time(since, now), now - kept).date()
        verdict = verify_chain(tx.audit.chained(start), tx.audit.days(), start, head)
        waiting = tx.audit.count_waiting()
    if as_json:
        print_json(_describe(verdict, waiting))
    else:
        print_line(f"{verdict.lines} lines of {verdict.days} days checked; {waiting} are not chained yet.")
        if verdict.end.day is not None:
            print_line(f"Newest: {verdict.end.day}, line {verdict.end.number}. Head: {verdict.end.hash}")
    if verdict.faults:
        raise CommandFailed("\n".join(fault.text for fault in verdict.faults))


def _describe(verdict: Verdict, waiting: int) -> dict[str, object]:
    end = verdict.end
    return {
        "ok": not verdict.faults,
        "lines": verdict.lines,
        "days": verdict.days,
        "unchained": waiting,
        "day": _to_day(end.day),
        "number": end.number,
        "head": end.hash,
        "faults": [asdict(fault) | {"day": _to_day(fault.day), "text": fault.text} for fault in verdict.faults],
    }


def _to_day(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _read(store: Store, wanted: Wanted, since: datetime | None, limit: int | None) -> Iterator[Line]:
    """Yield the lines, oldest first. No transaction is open meanwhile: whoever reads them may take their time."""
    if limit is not None:
        with store.reading() as tx:
            found = tx.audit.newest(wanted, since, limit)
        yield from found
        return
    after = 0
    while True:
        with store.reading() as tx:
            found = tx.audit.after(wanted, since, after)
        if not found:
            return
        yield from found
        after = found[-1].id


def _show(line: Line, as_one_document: bool) -> None:
    if as_one_document:
        print_json(as_json(line), indent=None)
        return
    about = (line.provider, line.user_id, line.connection_id or line.authorization_id, line.address)
    words = [each for each in about if each is not None]
    detail = format_evidence(line.detail)
    text = f"{to_text(line.at)}  {line.actor}  [bold]{escape(line.action)}[/]  {sentence_of(Action, line.action)}"
    shown = "  ".join(part for part in (" ".join(words), detail) if part)
    screen().print(f"{text}  {escape(shown)}".rstrip(), soft_wrap=True)
