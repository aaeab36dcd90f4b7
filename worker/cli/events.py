"""Events as the database keeps them: read, followed, sent once more."""

import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, get_args

import typer
from rich.markup import escape

from config.settings import parse_duration
from config.wiring import now
from models.messaging import messages
from models.messaging.events import Fact, StoredEvent
from models.store import Store
from worker.cli.consumer_groups import read_groups
from worker.cli.context import opened_queues, opened_store, settings_for
from worker.cli.explain import tell_length
from worker.cli.output import (
    AsJson,
    CommandFailed,
    NotThere,
    WrongUsage,
    complain,
    plainly,
    say,
    say_json,
    say_rich,
    screen,
    tabulate,
)

OfUser = Annotated[str | None, typer.Option("--user", help="Only this user's.")]
OfConnection = Annotated[str | None, typer.Option("--connection", help="Only of the connection with this id.")]

batch = 1000
overlap = 200
shown_first = 20
stuck = timedelta(minutes=5)


@plainly
def events(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until Ctrl-C.")] = False,
    type_: Annotated[str | None, typer.Option("--type", help="Only this type, like record.updated.")] = None,
    since: Annotated[str | None, typer.Option(metavar="ID", help="All after the event with this id.")] = None,
    user: OfUser = None,
    connection: OfConnection = None,
    as_json: AsJson = False,
) -> None:
    """Show events: the newest, or all since one."""
    if context.invoked_subcommand is not None:
        return
    if type_ is not None and type_ not in event_types():
        raise WrongUsage(f"There is no event type {type_}; there are {', '.join(event_types())}.")
    with opened_store(settings_for()) as store:
        wanted = {"type_": type_, "user_id": user, "connection_id": connection}
        start = _find_start(store, since, wanted)
        try:
            for event in _read(store, start, wanted, follow):
                _show(event, as_json)
        except KeyboardInterrupt:
            if not follow:
                raise
        except BrokenPipeError:
            raise CommandFailed("Nobody reads on.") from None


@plainly
def replay(
    since: Annotated[str, typer.Option(metavar="TIME", help="ISO 8601, UTC unless it says otherwise, or 2h for: ago.")],
    user: OfUser = None,
    connection: OfConnection = None,
    as_json: AsJson = False,
) -> None:
    """Publish the events since then once more, with the ids they had."""
    moment = read_time(since, now())
    settings = settings_for()
    with opened_store(settings) as store, opened_queues(settings) as queues:
        with store.writing() as tx:
            count = tx.outbox.republish_since(moment, now(), user_id=user, connection_id=connection)
        queues.send(messages.publish_events())
    if as_json:
        say_json({"since": moment, "events": count})
    else:
        say(f"{count} events since {moment:%Y-%m-%d %H:%M:%S} UTC leave once more, in their order.")


@plainly
def groups(as_json: AsJson = False) -> None:
    """Show who reads the streams: each consumer group, how far behind it is, and what it never acknowledged."""
    settings = settings_for()
    keys = (settings.events_stream, settings.records_stream, settings.commands_stream)
    with opened_queues(settings) as queues:
        found = [group for key in keys for group in read_groups(queues.client, key)]
    if as_json:
        say_json(found)
        return
    rows = [
        (each.stream, each.group, each.consumers, each.behind, each.pending, _tell_idle(each.oldest_pending_seconds))
        for each in found
    ]
    if rows:
        say_rich(tabulate(("stream", "group", "consumers", "behind", "pending", "oldest pending"), rows))
    for key in keys:
        if all(each.stream != key for each in found):
            say(f"Nobody reads {key} through a group.")
    for each in found:
        if each.oldest_pending_seconds is not None and each.oldest_pending_seconds >= stuck.total_seconds():
            complain(f"{each.group} holds entries of {each.stream} that it does not acknowledge: is a consumer dead?")


def event_types() -> list[str]:
    """Every type there is."""
    told = [kind.type for kind in get_args(Fact) if isinstance(kind.type, str)]
    return sorted([*told, "record.created", "record.updated", "record.deleted"])


def read_time(text: str, moment: datetime) -> datetime:
    """A time in ISO 8601, or a length of time before now. Raises `WrongUsage`."""
    try:
        return moment - parse_duration(text)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise WrongUsage(
            f"--since {text} is no time: expected 2026-05-01T12:00:00Z, or a length of time like 2h."
        ) from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def tell_event(event: StoredEvent) -> tuple[str, str]:
    """When it happened, and what it says beyond its envelope."""
    document: dict[str, Any] = json.loads(event.document)
    envelope = {"provider", "user_id", "connection_id"}
    data = {name: value for name, value in document["data"].items() if name not in envelope and value is not None}
    shown = (f"{name} {value if isinstance(value, str) else json.dumps(value)}" for name, value in data.items())
    return str(document["time"]), ", ".join(shown)


def _find_start(store: Store, since: str | None, wanted: Mapping[str, str | None]) -> int:
    with store.reading() as tx:
        if since is None:
            return tx.outbox.start_of_newest(shown_first, **wanted)
        position = tx.outbox.position_of(since)
    if position is None:
        raise NotThere(f"There is no event {since}.")
    return position


def _read(store: Store, start: int, wanted: Mapping[str, str | None], follow: bool) -> Iterator[StoredEvent]:
    """Every event after `start` once. Positions become visible out of order where transactions overlap, so a little
    of what was read is always read again."""
    newest, seen = start, set[int]()
    while True:
        with store.reading() as tx:
            found = tx.outbox.read(after=max(start, newest - overlap), limit=batch + overlap, **wanted)
        fresh = [(position, event) for position, event in found if position not in seen]
        for _, event in fresh:
            yield event
        newest = max((position for position, _ in fresh), default=newest)
        seen = {position for position, _ in found if position > newest - overlap} | {
            position for position in seen if position > newest - overlap
        }
        if len(found) < batch + overlap:
            if not follow:
                return
            time.sleep(0.25)


def _tell_idle(seconds: float | None) -> str:
    return "" if seconds is None else f"for {tell_length(timedelta(seconds=seconds))}"


def _show(event: StoredEvent, as_json: bool) -> None:
    if as_json:
        say(event.document)
        return
    at, said = tell_event(event)
    who = f"{event.user_id} {event.connection_id}".strip() or event.provider
    colour = _colours.get(event.type.split(".")[0], "white")
    line = f"{at[:19].replace('T', ' ')}  [{colour}]{event.type}[/]  {escape(who)}  #{event.sequence}  {escape(said)}"
    screen().print(line, soft_wrap=True)


_colours = {"connection": "green", "sync": "cyan", "record": "blue", "provider": "yellow"}
