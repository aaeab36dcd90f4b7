"""The consumer groups of the streams, with their lag."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from redis.exceptions import RedisError

from worker.operations.consumer_groups import Group, read_groups
from worker.operator.views.sources import Sources

stuck_after = timedelta(minutes=5)


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
    with sources.store.reading() as tx:
        now = tx.overview.time()
    return GroupsView(now, read_streams(sources))


def read_streams(sources: Sources) -> Sequence[StreamView] | None:
    """Return the streams with their groups; None if Redis does not answer."""
    client: Any = sources.queues.client
    try:
        return [
            StreamView(key, int(client.xlen(key)), [_line_of(group) for group in read_groups(client, key)])
            for key in sources.streams
        ]
    except RedisError:
        return None


def _line_of(group: Group) -> GroupLine:
    oldest = group.oldest_pending_seconds
    return GroupLine(
        stream=group.stream,
        group=group.group,
        consumers=group.consumers,
        behind=group.behind,
        pending=group.pending,
        oldest_pending_seconds=oldest,
        last_delivered_id=group.last_delivered_id,
        is_stuck=oldest is not None and oldest >= stuck_after.total_seconds(),
    )
