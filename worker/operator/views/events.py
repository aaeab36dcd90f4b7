"""The newest events, of all connections or of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from models.store import Transaction
from models.store.search import EventFound
from worker.operations.event_lines import data_of, describe_together, event_types, fold
from worker.operator.views.places import can_be_stored, read_position
from worker.operator.views.sources import Sources

rows_of_page = 50


@dataclass(frozen=True, slots=True)
class EventLine:
    """An event; or several records that a first sync found one after the other, as one line.

    id, at, sequence, is_published: of the newest of them.
    count: how many they are.
    data: what the event says beyond who it is about; no record's content.
    summary: the same on one line.
    """

    id: str
    at: datetime
    type: str
    stream: str
    provider: str
    user_id: str
    connection_id: str
    sequence: int
    count: int
    data: Mapping[str, object]
    summary: str
    is_published: bool


@dataclass(frozen=True, slots=True)
class EventsPage:
    """One page, the newest first.

    older: what the next page starts from; None if there is nothing older.
    is_cut: whether the search ended before it filled the page, since too many events did not fit; `older` goes on.
    types: what can be chosen from.
    """

    now: datetime
    type: str | None
    connection_id: str | None
    rows: Sequence[EventLine]
    older: str | None
    is_cut: bool
    types: Sequence[str]


def load_events(
    sources: Sources, type_: str | None = None, connection_id: str | None = None, older_than: str | None = None
) -> EventsPage:
    """Load one page. Raises `UnreadablePlace`; an unknown type has no events."""
    before = None if older_than is None else read_position(older_than)
    is_possible = type_ in (None, *event_types()) and (connection_id is None or can_be_stored(connection_id))
    with sources.store.reading() as tx:
        now = tx.overview.time()
        found, end = _find(tx, type_, connection_id, before) if is_possible else ([], None)
    return EventsPage(
        now=now,
        type=type_,
        connection_id=connection_id,
        rows=lines_of(found),
        older=None if end is None else str(end),
        is_cut=end is not None and len(found) < rows_of_page,
        types=event_types(),
    )


def _find(
    tx: Transaction, type_: str | None, connection_id: str | None, before: int | None
) -> tuple[Sequence[EventFound], int | None]:
    """Return a page of events, and the position that the next page starts from."""
    if connection_id is None:
        return tx.search.events(type_, before, rows_of_page)
    read = tx.search.events_of(connection_id, before, rows_of_page)
    found = [each for each in read if type_ in (None, each.event.type)]
    return found, read[-1].position if len(read) == rows_of_page else None


def lines_of(found: Sequence[EventFound]) -> Sequence[EventLine]:
    """Return the lines of events that are in the order of their publication, or in the reverse."""
    by_id = {each.event.id: each for each in found}
    lines = []
    for together in fold([each.event for each in found]):
        newest = max((by_id[event.id] for event in together), key=lambda each: each.position)
        event = newest.event
        lines.append(
            EventLine(
                id=event.id,
                at=newest.created_at,
                type=event.type,
                stream=event.stream,
                provider=event.provider,
                user_id=event.user_id,
                connection_id=event.connection_id,
                sequence=event.sequence,
                count=len(together),
                data=data_of(event) if len(together) == 1 else {},
                summary=describe_together(together),
                is_published=newest.is_published,
            )
        )
    return lines
