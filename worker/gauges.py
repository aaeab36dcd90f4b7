"""Figures that are read from the database whenever somebody asks: how many events wait, and for how long."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from models.errors import SyncError
from models.store import Store


@dataclass(frozen=True, slots=True)
class OutboxGauges:
    """Nothing where the database does not answer: a figure of an hour ago would be a lie."""

    store: Store
    now: Callable[[], datetime]

    def collect(self) -> Iterator[Metric]:
        try:
            with self.store.reading() as tx:
                waiting, since = tx.outbox.backlog()
        except SyncError:
            return
        lag = 0.0 if since is None else max((self.now() - since).total_seconds(), 0)
        yield GaugeMetricFamily("breezesync_events_unpublished", "Events that have not left.", value=waiting)
        yield GaugeMetricFamily("breezesync_event_lag_seconds", "For how long the first of them has waited.", value=lag)

    def describe(self) -> list[Metric]:
        """No reading when it is registered: a process starts without a database, too."""
        return []


def build_registry(store: Store, now: Callable[[], datetime]) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(OutboxGauges(store, now))
    return registry
