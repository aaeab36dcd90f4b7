"""The queues with their depth, and the processes that work on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from worker.operator.views.overview import ProcessView, QueueDepth
from worker.operator.views.sources import Sources


@dataclass(frozen=True, slots=True)
class QueuesView:
    """`queues` is None if Redis does not answer."""

    now: datetime
    queues: Sequence[QueueDepth] | None
    processes: Sequence[ProcessView]


def load_queues(sources: Sources) -> QueuesView:
    """Load every queue, and each process that reported within the last hour."""
    raise NotImplementedError
