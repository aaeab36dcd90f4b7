"""Figures over the whole database, kept for a while: counting a million connections takes a second."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from models.store import Store
from models.store.figures import Sample
from models.store.webhooks import Load
from worker.metrics.kept import Kept

span = timedelta(minutes=10)
spans = 36
settled_after = timedelta(minutes=1)
"""A span that ended so long ago is not counted again: what it counts is committed."""
days = 28


@dataclass(frozen=True, slots=True)
class Activity:
    """What happened within ten minutes.

    at: when they began.
    syncs_completed, syncs_failed: how many syncs ended so.
    requests: how many API requests were made.
    errors: how many of them got no response, or one of 400 or more.
    is_estimate: whether there were too many to count each: then they are extrapolated from a part.
    """

    at: datetime
    syncs_completed: int
    syncs_failed: int
    requests: int
    errors: int
    is_estimate: bool = False


@dataclass(frozen=True, slots=True)
class CountedConnections:
    """How many connections have each provider, status and problem ("" for none)."""

    counted_at: datetime
    by_state: Sequence[tuple[str, str, str, int]]


@dataclass(frozen=True, slots=True)
class CountedRefreshes:
    """How many refreshes are due on each day that has any."""

    counted_at: datetime
    by_day: Mapping[date, int]


class FleetFigures:
    """The figures of one database. Each raises `SyncError` if the database does not answer."""

    def __init__(
        self,
        store: Store,
        *,
        connections: float = 5,
        refreshes: float = 60,
        activity: float = 10,
        loads: float = 5,
    ) -> None:
        """Keep each for at least so many seconds."""
        self.store = store
        self._spans: dict[datetime, Activity] = {}
        self._lock = threading.Lock()
        self._connections = Kept(self._count_connections, connections)
        self._refreshes = Kept(self._count_refreshes, refreshes)
        self._activity = Kept(self._count_activity, activity)
        self._loads = Kept(self._count_loads, loads)

    def connections(self) -> CountedConnections:
        """Return how many connections there are, by their state."""
        return self._connections.get()

    def refreshes(self) -> CountedRefreshes:
        """Return how many refreshes are due on each of the next 28 days; what is overdue is on its own day."""
        return self._refreshes.get()

    def activity(self) -> Sequence[Activity]:
        """Return the last six hours, ten minutes each, the oldest first."""
        return self._activity.get()

    def loads(self) -> Mapping[str, Load]:
        """Return what waits for each endpoint of webhooks that anything waits for, by its id."""
        return self._loads.get()

    def _count_loads(self) -> Mapping[str, Load]:
        with self.store.reading() as tx:
            return tx.webhooks.loads()

    def _count_connections(self) -> CountedConnections:
        with self.store.reading() as tx:
            return CountedConnections(tx.overview.time(), tx.overview.connections_by_state())

    def _count_refreshes(self) -> CountedRefreshes:
        with self.store.reading() as tx:
            now = tx.overview.time()
            end = datetime.combine(now.date() + timedelta(days=days), datetime.min.time(), UTC)
            return CountedRefreshes(now, tx.figures.refreshes_by_day(end))

    def _count_activity(self) -> Sequence[Activity]:
        with self._lock, self.store.reading() as tx:
            now = tx.overview.time()
            starts = find_spans(now)
            self._spans = {start: found for start, found in self._spans.items() if start in starts}
            missing = [start for start in starts if start not in self._spans]
            syncs = tx.figures.syncs_of(missing, span)
            requests = tx.figures.requests_of(missing, span)
            counted = {
                start: extrapolate(start, of_syncs, of_requests)
                for start, of_syncs, of_requests in zip(missing, syncs, requests, strict=True)
            }
            self._spans |= {start: found for start, found in counted.items() if start + span + settled_after <= now}
            return [(self._spans | counted)[start] for start in starts]


def find_spans(now: datetime) -> Sequence[datetime]:
    """Return when each of the last 36 spans began, the oldest first; the last one runs."""
    seconds = int(span.total_seconds())
    last = datetime.fromtimestamp(int(now.timestamp()) // seconds * seconds, UTC)
    return [last - span * later for later in reversed(range(spans))]


def extrapolate(start: datetime, syncs: Sample, requests: Sample) -> Activity:
    """Return what happened in a span, by the part of it that was looked at."""
    failed = round(syncs.bad / syncs.share)
    return Activity(
        at=start,
        syncs_completed=round(syncs.total / syncs.share) - failed,
        syncs_failed=failed,
        requests=round(requests.total / requests.share),
        errors=round(requests.bad / requests.share),
        is_estimate=syncs.share < 1 or requests.share < 1,
    )
