"""Metrics that are read from the database and the queues at each scrape."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from redis.exceptions import RedisError

from models.errors import SyncError
from models.oauth.client import StoredClient
from models.oauth.connection import Status
from models.queue import Depth
from models.store import Store

Figures = Mapping[tuple[str, ...], float]
"""A number for each combination of label values."""


@dataclass(frozen=True, slots=True)
class StoreGauges:
    """Metrics of the database; none if it does not answer, because old numbers would mislead."""

    store: Store
    now: Callable[[], datetime]

    def collect(self) -> Iterator[Metric]:
        now = self.now()
        try:
            with self.store.reading() as tx:
                by_status, due = tx.overview.connections_by_status(), tx.overview.due(now)
                oldest, rejected = tx.overview.oldest_due(now), tx.overview.rejected_clients()
                clients = tx.clients.all()
                held = [(each.provider, tx.refusals.count_held(each.provider, each.client_id)) for each in clients]
                waiting, since = tx.outbox.backlog()
                connecting = tx.overview.authorizations_waiting()
        except SyncError:
            return
        connections: Figures = {(status.value,): by_status.get(status.value, 0) for status in Status}
        yield _gauge("connections", "Connections by status.", ("status",), connections)
        yield _gauge("due", "Work that is due.", ("kind",), {(name,): n for name, n in due.items()})
        yield _gauge(
            "oldest_due_age_seconds", "For how long the oldest of it has been due.", (), {(): _age(oldest, now)}
        )
        by_client: Figures = {(provider, client_id): 1 for provider, client_id, _ in rejected}
        yield _gauge(
            "client_rejected", "OAuth clients rejected by their provider.", ("provider", "client_id"), by_client
        )
        yield _gauge(
            "authorizations_waiting", "Users who came back with a code and are not connected yet.", (), {(): connecting}
        )
        yield from _breaker_gauges(clients, held)
        yield _gauge("events_unpublished", "Unpublished events.", (), {(): waiting})
        yield _gauge(
            "event_lag_seconds", "For how long the oldest unpublished event has waited.", (), {(): _age(since, now)}
        )

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering reads no database: a process starts without one, too."""
        return []


@dataclass(frozen=True, slots=True)
class QueueGauges:
    """Metrics of the queues; none if Redis does not answer."""

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


@dataclass(frozen=True, slots=True)
class ClockGauge:
    """How far this process's machine is ahead of the database's clock; nothing if that is not known."""

    offset: Callable[[], timedelta]

    def collect(self) -> Iterator[Metric]:
        try:
            ahead = self.offset().total_seconds()
        except SyncError:
            return
        text = "How far the clock of this process's machine is ahead of the database's."
        yield _gauge("clock_offset_seconds", text, (), {(): ahead})

    def describe(self) -> list[Metric]:
        return []


def build_registry(
    store: Store,
    now: Callable[[], datetime],
    depths: Callable[[], Mapping[str, Depth]] | None = None,
    offset: Callable[[], timedelta] | None = None,
) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(StoreGauges(store, now))
    if depths is not None:
        registry.register(QueueGauges(depths))
    if offset is not None:
        registry.register(ClockGauge(offset))
    return registry


def _breaker_gauges(clients: Sequence[StoredClient], held: Sequence[tuple[str, int]]) -> Iterator[Metric]:
    unavailable: dict[tuple[str, ...], float] = {(client.provider,): 0 for client in clients}
    unavailable |= {(client.provider,): 1 for client in clients if client.keeps_codes}
    yield _gauge(
        "provider_unavailable",
        "Whether tokens and codes are kept back: the token endpoint is unavailable, or an operator paused it.",
        ("provider",),
        unavailable,
    )
    by_provider: dict[tuple[str, ...], float] = {(provider,): 0 for provider, _ in held}
    for provider, number in held:
        by_provider[provider,] += number
    yield _gauge("held_connections", "Refused connections that are held.", ("provider",), by_provider)


def _gauge(name: str, text: str, labels: tuple[str, ...], values: Figures) -> Metric:
    family = GaugeMetricFamily(f"breezesync_{name}", text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _age(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max((now - since).total_seconds(), 0)
