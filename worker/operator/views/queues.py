"""The queues with their depth, and the processes that work on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from redis.exceptions import RedisError

from models.store import Transaction
from worker.operator.views.sources import Sources

shown_for = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """A queue: messages that no worker has taken, those in work or delayed, and those that failed for good."""

    name: str
    waiting: int
    under_way: int
    dead: int


@dataclass(frozen=True, slots=True)
class ProcessView:
    """A process as it reported last: alive if that was within two minutes."""

    name: str
    role: str
    version: str
    reported_at: datetime
    ahead_seconds: float
    is_alive: bool


@dataclass(frozen=True, slots=True)
class QueuesView:
    """`queues` is None if Redis does not answer."""

    now: datetime
    queues: Sequence[QueueDepth] | None
    processes: Sequence[ProcessView]


def load_queues(sources: Sources) -> QueuesView:
    """Load every queue, and each process that reported within the last hour."""
    with sources.store.reading() as tx:
        now = tx.overview.time()
        processes = read_processes(tx, now)
    return QueuesView(now, read_depths(sources), processes)


def read_depths(sources: Sources) -> Sequence[QueueDepth] | None:
    """Return the depth of each queue; None if Redis does not answer."""
    try:
        depths = sources.queues.depths()
    except RedisError:
        return None
    return [QueueDepth(name, depth.waiting, depth.under_way, depth.dead) for name, depth in depths.items()]


def read_processes(tx: Transaction, now: datetime) -> Sequence[ProcessView]:
    """Return the processes that reported within the last hour, by role and name."""
    return [
        ProcessView(
            name=each.name,
            role=each.role,
            version=each.version,
            reported_at=each.reported_at,
            ahead_seconds=each.ahead_seconds,
            is_alive=each.is_alive(now),
        )
        for each in tx.processes.since(now - shown_for)
    ]
