"""The newest events, of all connections or of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from worker.operator.views.sources import Sources

rows_of_page = 50


@dataclass(frozen=True, slots=True)
class EventLine:
    """An event, or the records that a first sync found: these follow each other as one line, `count` of them.

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
    raise NotImplementedError
