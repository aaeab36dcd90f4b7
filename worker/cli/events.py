"""Commands that show the stored events, follow them, and publish them again."""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.markup import escape

from config.durations import parse_duration
from models.audit.entry import Action, Entry
from models.messaging import messages
from models.messaging.events import StoredEvent
from models.store import Store
from models.store.outbox import most_searched
from worker.cli.context import load_settings, opened_queues, opened_store
from worker.cli.output import (
    AsJson,
    CommandFailed,
    NotFound,
    WrongUsage,
    make_table,
    print_json,
    print_line,
    print_rich,
    print_warning,
    report_errors,
    screen,
)
from worker.operations.consumer_groups import read_groups
from worker.operations.event_lines import describe_together, event_types, fold, time_of
from worker.operations.texts import format_length

OfUser = Annotated[str | None, typer.Option("--user", help="Only events of this user.")]
OfConnection = Annotated[str | None, typer.Option("--connection", help="Only events of the connection with this id.")]

batch = 1000
overlap = 200
shown_first = 20
looked_at = 1000
"""Of so many events are the newest lines made: a first sync takes only one of them."""
stuck = timedelta(minutes=5)


@report_errors
def events(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", help="Keep showing new events until Ctrl-C.")] = False,
    type_: Annotated[
        str | None,
        typer.Option("--type", autocompletion=event_types, help="Only events of this type, such as record.updated."),
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="ID", help="All events after the one with this id.")] = None,
    user: OfUser = None,
    connection: OfConnection = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many of the newest to show.")] = shown_first,
    as_json: AsJson = False,
) -> None:
    """Show the newest events, or all events since a given one; the records of a first sync share a line."""
    if context.invoked_subcommand is not None:
        return
    if type_ is not None and type_ not in event_types():
        raise WrongUsage(f"There is no event type {type_}. The types are {', '.join(event_types())}.")
    with opened_store(load_settings()) as store:
        wanted = {"type_": type_, "user_id": user, "connection_id": connection}
        start, is_cut = _find_start(store, since, wanted, limit if as_json else max(limit, looked_at))
        newest, shown = None if since is not None or as_json else limit, 0
        try:
            for found in _read(store, start, wanted, follow):
                shown += _show_all(found, as_json, newest)
                newest = None
        except KeyboardInterrupt:
            if not follow:
                raise
        except BrokenPipeError:
            raise CommandFailed("The program that was reading the events closed its input.") from None
    if is_cut and shown < limit:
        print_warning(
            f"Only the newest {most_searched:,} events were looked at. --since ID shows all after one of them."
        )


@report_errors
def replay(
    since: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="ISO 8601, in UTC if it has no offset; or a length of time before now, such as 2h."
        ),
    ],
    user: OfUser = None,
    connection: OfConnection = None,
    as_json: AsJson = False,
) -> None:
    """Publish the events since a time again, with the same ids."""
    settings = load_settings()
    with opened_store(settings) as store, opened_queues(settings) as queues:
        with store.writing() as tx:
            now = tx.overview.time()
            moment = read_time(since, now)
            count = tx.outbox.republish_since(moment, now, user_id=user, connection_id=connection)
            detail = {"since": moment.isoformat(), "events": count}
            replayed = Entry(action=Action.events_replayed, user_id=user, connection_id=connection, detail=detail)
            tx.audit.add(replayed, now)
        queues.send(messages.publish_events())
    if as_json:
        print_json({"since": moment, "events": count})
    else:
        print_line(f"{count} events since {moment:%Y-%m-%d %H:%M:%S} UTC will be published again, in their order.")


@report_errors
def groups(as_json: AsJson = False) -> None:
    """Show the streams' consumer groups, how far behind they are, and how many entries they have not acknowledged."""
    settings = load_settings()
    keys = (settings.events_stream, settings.records_stream, settings.commands_stream)
    with opened_queues(settings) as queues:
        found = [group for key in keys for group in read_groups(queues.client, key)]
    if as_json:
        print_json(found)
        return
    rows = [
        (each.stream, each.group, each.consumers, each.behind, each.pending, _format_idle(each.oldest_pending_seconds))
        for each in found
    ]
    if rows:
        print_rich(make_table(("stream", "group", "consumers", "behind", "pending", "oldest pending"), rows))
    for key in keys:
        if all(each.stream != key for each in found):
            print_line(f"{key} has no consumer group.")
    for each in found:
        if each.oldest_pending_seconds is not None and each.oldest_pending_seconds >= stuck.total_seconds():
            print_warning(
                f"{each.group} has left entries of {each.stream} unacknowledged for long. Check that its consumers run."
            )


def read_time(text: str, moment: datetime) -> datetime:
    """Read a time in ISO 8601, or a length of time before now. Raises `WrongUsage`."""
    try:
        return moment - parse_duration(text)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise WrongUsage(
            f"--since {text} is not a time. Expected 2026-05-01T12:00:00Z, or a length of time such as 2h."
        ) from None


def _find_start(store: Store, since: str | None, wanted: Mapping[str, str | None], count: int) -> tuple[int, bool]:
    """Return the position to read from, and whether there may be more of what is wanted before it."""
    with store.reading() as tx:
        if since is None:
            return tx.outbox.start_of_newest(count, **wanted)
        position = tx.outbox.position_of(since)
    if position is None:
        raise NotFound(f"There is no event {since}.")
    return position, False


def _read(store: Store, start: int, wanted: Mapping[str, str | None], follow: bool) -> Iterator[Sequence[StoredEvent]]:
    """Yield every event after `start` once, many at a time.

    Overlapping transactions make positions visible out of order, so the last `overlap` positions are read again.
    """
    newest, seen = start, set[int]()
    while True:
        with store.reading() as tx:
            found = tx.outbox.read(after=max(start, newest - overlap), limit=batch + overlap, **wanted)
        fresh = [(position, event) for position, event in found if position not in seen]
        if fresh:
            yield [event for _, event in fresh]
        newest = max((position for position, _ in fresh), default=newest)
        seen = {position for position, _ in found if position > newest - overlap} | {
            position for position in seen if position > newest - overlap
        }
        if len(found) < batch + overlap:
            if not follow:
                return
            time.sleep(0.25)


def _format_idle(seconds: float | None) -> str:
    return "" if seconds is None else f"for {format_length(timedelta(seconds=seconds))}"


def _show_all(events: Sequence[StoredEvent], as_json: bool, newest: int | None) -> int:
    """Print events, a line each, and return how many; as text what a first sync found shares one, and only the `newest`
    lines are shown."""
    if as_json:
        for event in events:
            print_line(event.document)
        return len(events)
    lines = [_describe_all(together) for together in fold(events)]
    lines = lines if newest is None else lines[-newest:]
    console = screen()
    for line in lines:
        console.print(line, soft_wrap=True)
    return len(lines)


def _describe_all(events: Sequence[StoredEvent]) -> str:
    """Return the line of one event, or of what a first sync found."""
    event, first = events[-1], events[0]
    number = f"#{event.sequence}" if len(events) == 1 else f"#{first.sequence}-{event.sequence}"
    who = f"{event.user_id} {event.connection_id}".strip() or event.provider
    colour = _colours.get(event.type.split(".")[0], "white")
    at = time_of(first)[:19].replace("T", " ")
    return f"{at}  [{colour}]{event.type}[/]  {escape(who)}  {number}  {escape(describe_together(events))}"


_colours = {"connection": "green", "sync": "cyan", "record": "blue", "provider": "yellow"}
