"""Metrics of the whole fleet, read from the database and the queues, and kept for a few seconds."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from redis.exceptions import RedisError

from models.errors import SyncError
from models.oauth.client import Cause, StoredClient
from models.oauth.connection import Status
from models.queue import Depth
from models.store import Store, Transaction
from models.store.webhooks import Load
from worker.metrics import catalog
from worker.metrics.catalog import Family
from worker.metrics.kept import Kept

Figures = Mapping[tuple[str, ...], float]
"""A number for each combination of label values."""
most_counted = 100_000
"""What waits is counted up to here: more would take the database longer, and mean no more."""
kept_seconds = 5.0


class Collects(Protocol):
    """What prometheus-client asks for metrics."""

    def collect(self) -> Iterable[Metric]: ...


class KeptMetrics:
    """The metrics of `collector`, read again only after a while, however many ask.

    What took long is read again on a thread of its own, and shown as it was until then: no scrape waits for it twice.
    None are kept of a database that does not answer: it is asked again soon.
    """

    def __init__(self, collector: Collects, least: float = kept_seconds, patience: float = 1.0) -> None:
        self._kept = Kept[Sequence[Metric]](lambda: list(collector.collect()), least, patience)

    def collect(self) -> Sequence[Metric]:
        return self._kept.get()

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering reads no database: a process starts without one, too."""
        return []


@dataclass(frozen=True, slots=True)
class ConnectionGauges:
    """Connections by their state; none if the database does not answer, because old numbers would mislead."""

    store: Store

    def collect(self) -> Iterator[Metric]:
        try:
            with self.store.reading() as tx:
                found = tx.overview.connections_by_state()
                providers = {client.provider for client in tx.clients.all()}
        except SyncError:
            return
        providers |= {provider for provider, *_ in found}
        numbers: dict[tuple[str, ...], float] = {
            (p, status.value, ""): 0 for p in sorted(providers) for status in Status
        }
        for provider, status, problem, number in found:
            numbers[provider, status, problem] = number
        yield _gauge(catalog.connections, numbers)


@dataclass(frozen=True, slots=True)
class StoreGauges:
    """Metrics of what waits in the database; none if it does not answer."""

    store: Store
    now: Callable[[], datetime]

    def collect(self) -> Iterator[Metric]:
        try:
            now = self.now()
            with self.store.reading() as tx:
                found = [*_read_waiting(tx, now), *_read_clients(tx)]
        except SyncError:
            return
        yield from found


def _read_waiting(tx: Transaction, now: datetime) -> Iterator[Metric]:
    due, oldest = tx.overview.due(now, most_counted), tx.overview.oldest_due(now)
    yield _gauge(catalog.due, {(name,): n for name, n in due.items()})
    yield _gauge(catalog.oldest_due, {(): _age(oldest, now)})
    yield _gauge(catalog.authorizations_waiting, {(): tx.overview.authorizations_waiting()})
    unpublished, since = tx.outbox.backlog(most_counted)
    yield _gauge(catalog.events_unpublished, {(): unpublished})
    yield _gauge(catalog.event_lag, {(): _age(since, now)})
    yield from _read_webhooks(tx, now)
    yield _gauge(catalog.processes, {(role, version): n for (role, version), n in tx.processes.count(now).items()})


def _read_webhooks(tx: Transaction, now: datetime) -> Iterator[Metric]:
    loads = tx.webhooks.loads()
    found = {name: loads.get(webhook_id, Load()) for webhook_id, name in tx.webhooks.names().items()}
    yield _gauge(catalog.webhook_waiting, {(name,): load.waiting for name, load in found.items()})
    yield _gauge(catalog.webhook_lag, {(name,): _age(load.since, now) for name, load in found.items()})
    yield _gauge(catalog.webhook_dead_letters, {(name,): load.dead for name, load in found.items()})


def _read_clients(tx: Transaction) -> Iterator[Metric]:
    clients = tx.clients.all()
    rejected: Figures = {(each.provider, each.client_id): each.cause is Cause.rejected for each in clients}
    yield _gauge(catalog.client_rejected, rejected)
    held = [(each.provider, tx.refusals.count_held(each.provider, each.client_id)) for each in clients]
    yield from _breaker_gauges(clients, held)


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
        yield _gauge(catalog.queue_messages, messages)

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
        yield _gauge(catalog.clock_offset, {(): ahead})

    def describe(self) -> list[Metric]:
        return []


def build_registry(
    store: Store,
    now: Callable[[], datetime],
    depths: Callable[[], Mapping[str, Depth]] | None = None,
    offset: Callable[[], timedelta] | None = None,
    kept_for: float = kept_seconds,
) -> CollectorRegistry:
    """Return what shows the fleet; `kept_for` is how many seconds a figure is shown at least, 0 for no keeping."""
    collectors: list[Collects] = [StoreGauges(store, now), ConnectionGauges(store)]
    collectors += [QueueGauges(depths)] if depths is not None else []
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(KeptMetrics(collector, kept_for))
    if offset is not None:
        registry.register(ClockGauge(offset))
    return registry


def _breaker_gauges(clients: Sequence[StoredClient], held: Sequence[tuple[str, int]]) -> Iterator[Metric]:
    unavailable: dict[tuple[str, ...], float] = {(client.provider,): 0 for client in clients}
    unavailable |= {(client.provider,): 1 for client in clients if client.keeps_codes}
    yield _gauge(catalog.provider_unavailable, unavailable)
    by_provider: dict[tuple[str, ...], float] = {(provider,): 0 for provider, _ in held}
    for provider, number in held:
        by_provider[provider,] += number
    yield _gauge(catalog.held_connections, by_provider)


def _gauge(of: Family, values: Figures) -> Metric:
    family = GaugeMetricFamily(of.full_name, of.text, labels=of.labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _age(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max((now - since).total_seconds(), 0)
