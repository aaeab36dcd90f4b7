"""Figures that are read from database and queues whenever somebody asks: what stands, what is due, what waits."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from redis.exceptions import RedisError

from models.errors import SyncError
from models.oauth.connection import Status
from models.queue import Depth
from models.store import Store

Figures = Mapping[tuple[str, ...], float]
"""A figure for each combination of labels."""


@dataclass(frozen=True, slots=True)
class StoreGauges:
    """Nothing where the database does not answer: a figure of an hour ago would be a lie."""

    store: Store
    now: Callable[[], datetime]

    def collect(self) -> Iterator[Metric]:
        now = self.now()
        try:
            with self.store.reading() as tx:
                by_status, due = tx.overview.connections_by_status(), tx.overview.due(now)
                oldest, rejected = tx.overview.oldest_due(now), tx.overview.rejected_clients()
                waiting, since = tx.outbox.backlog()
        except SyncError:
            return
        connections: Figures = {(status.value,): by_status.get(status.value, 0) for status in Status}
        yield _gauge("connections", "Connections by status.", ("status",), connections)
        yield _gauge("due", "What should have been done by now.", ("kind",), {(name,): n for name, n in due.items()})
        yield _gauge("oldest_due_age_seconds", "For how long the first of it is due.", (), {(): _age(oldest, now)})
        refused: Figures = {(provider, client_id): 1 for provider, client_id, _ in rejected}
        yield _gauge("client_rejected", "OAuth clients refused by their provider.", ("provider", "client_id"), refused)
        yield _gauge("events_unpublished", "Events that have not left.", (), {(): waiting})
        yield _gauge("event_lag_seconds", "For how long the first of them has waited.", (), {(): _age(since, now)})

    def describe(self) -> list[Metric]:
        """No reading when it is registered: a process starts without a database, too."""
        return []


@dataclass(frozen=True, slots=True)
class QueueGauges:
    """Nothing where Redis does not answer."""

    depths: Callable[[], Mapping[str, Depth]]

    def collect(self) -> Iterator[Metric]:
        try:
            depths = self.depths()
        except RedisError:
            return
        messages: Figures = {
            (queue, state): getattr(depth, state)
            for queue, depth in depths.items()
            for state in ("waiting", "under_way", "dead")
        }
        yield _gauge("queue_messages", "Messages by queue and state.", ("queue", "state"), messages)

    def describe(self) -> list[Metric]:
        return []


def build_registry(
    store: Store, now: Callable[[], datetime], depths: Callable[[], Mapping[str, Depth]] | None = None
) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(StoreGauges(store, now))
    if depths is not None:
        registry.register(QueueGauges(depths))
    return registry


def _gauge(name: str, told: str, labels: tuple[str, ...], values: Figures) -> Metric:
    family = GaugeMetricFamily(f"breezesync_{name}", told, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _age(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max((now - since).total_seconds(), 0)
