"""The consumer groups of the streams, with their lag."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from worker.operator.views.sources import Sources


@dataclass(frozen=True, slots=True)
class GroupLine:
    """A consumer group.

    behind: entries that no consumer was given; None if Redis does not know.
    pending: entries that were delivered and not acknowledged.
    oldest_pending_seconds: since when the oldest of them is; None if there is none.
    is_stuck: whether that is longer than five minutes.
    """

    stream: str
    group: str
    consumers: int
    behind: int | None
    pending: int
    oldest_pending_seconds: float | None
    last_delivered_id: str
    is_stuck: bool


@dataclass(frozen=True, slots=True)
class StreamView:
    """A stream: its entries, and its groups; a stream that no one reads has none."""

    key: str
    length: int
    groups: Sequence[GroupLine]


@dataclass(frozen=True, slots=True)
class GroupsView:
    """`streams` is None if Redis does not answer."""

    now: datetime
    streams: Sequence[StreamView] | None


def load_groups(sources: Sources) -> GroupsView:
    """Load every group of the three streams."""
    raise NotImplementedError
