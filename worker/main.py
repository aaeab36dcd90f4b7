"""Builds the worker and the web applications from the settings."""

import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

import dramatiq
import structlog
from dramatiq.middleware import AgeLimit, Middleware
from starlette.applications import Starlette
from starlette.types import ASGIApp, Lifespan

from config.environment import SettingsError
from config.exposition import Exposition
from config.heartbeat import Heartbeat
from config.logs import configure_logging
from config.settings import Need, Settings, read_settings
from config.stopping import exit_within, longest_stop
from config.version import read_version
from config.wiring import Services, open_hasty_redis, open_redis, open_services, stream_settings
from models.crypto.sealed_box import Sealer
from models.crypto.vault import Vault
from models.errors import SyncError
from models.messaging.messages import Message
from models.queue import WritableRedis
from models.store import Store
from worker.actors import Flows, declare_actors
from worker.calls.carry_out import CarryOutCall
from worker.calls.kept_answers import KeptAnswers
from worker.gateway.app import Shell, build_gateway_app
from worker.gateway.desk import Desk
from worker.gateway.door import Door
from worker.gateway.office import Office
from worker.gateway.openapi import describe as describe_gateway
from worker.gateway.transport import AsyncRouted
from worker.metrics.catalog import in_gateway
from worker.metrics.counters import Metrics
from worker.metrics.group import DirectoryUnusable, share_metrics
from worker.metrics.messages import CountMessages
from worker.oauth.confirm import Confirm
from worker.oauth.disconnect import Disconnect
from worker.oauth.exchange import Exchange
from worker.oauth.probe_client import ProbeClient
from worker.oauth.recover_tokens import RecoverTokens, RecoveryThread
from worker.oauth.refresh import Refresh
from worker.oauth.revoke import Revoke
from worker.page import build_page
from worker.provider.client import ProviderClient
from worker.provider.rate_limit import Budgets
from worker.queue.broker import Broker, KeepReason
from worker.queue.liveness import Pulse
from worker.queue.publish import PublishEvents
from worker.queue.publisher import Publisher
from worker.queue.trace_messages import TraceMessages
from worker.startup import find_key_trouble, open_vault
from worker.sync.run import Sync
from worker.sync.user import SyncUser
from worker.tokens.oauth_clients import OAuthClients
from worker.tokens.spool import Parking
from worker.tracing.spans import Traces
from worker.tracing.start import start_tracing
from worker.web.app import build_app
from worker.web.callback import Callback
from worker.web.guard import Allowance
from worker.web.hooks import Hooks
from worker.web.listener import AddressUnusable, listen_at, serving_beside
from worker.web.metrics import build_registry
from worker.web.operator import build_operator_app
from worker.web.protocol import Bounds, harden_caller
from worker.webhooks.deliver import DeliverWebhooks

gateway_bounds = Bounds(
    head=32_768, request_time=60, response_time=75, idle_time=60, connections=1_000, all_connections=1_000
)
"""Of the gateway's listener: its clients are servers, which keep connections open and send long bodies."""
gateway_stop_seconds = 22
"""How long calls that are under way may take after SIGTERM; then they are cut."""


class BindIds(Middleware):
    """Puts a message's ids on every log line that its actor writes."""

    known = frozenset(
        {
            "authorization_id",
            "client_id",
            "call_id",
            "connection_id",
            "revocation_id",
            "user_id",
            "provider",
            "webhook_id",
        }
    )

    def before_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        ids = {name: value for name, value in message.kwargs.items() if name in self.known and isinstance(value, str)}
        structlog.contextvars.bind_contextvars(message_id=message.message_id, actor=message.actor_name, **ids)

    def after_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy, **outcome: Any) -> None:
        structlog.contextvars.clear_contextvars()

    after_skip_message = after_process_message


class StopInTime(Middleware):
    """Ends the process if something hangs when its worker shuts down."""

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        exit_within(longest_stop - timedelta(seconds=1))  # the worker notices SIGTERM within a second


def boot() -> None:
    """What `dramatiq worker.main:boot` calls: reads the settings, sets the broker, declares the actors."""
    configure_logging()
    settings = read_or_exit("keys", "clients")
    pulse = Pulse(Heartbeat(settings.heartbeat_file).beat)
    middleware = [StopInTime(), BindIds(), KeepReason(), pulse]
    traces = start_tracing("worker", read_version())
    services = open_services(settings, "worker", middleware, partial(Broker, on_round=pulse.note_round))
    services = replace(services, traceparent=traces.traceparent)
    broker = services.broker
    dramatiq.set_broker(broker)
    metrics, exposition = open_metrics(settings, traces)
    parts = build_parts(settings, services, metrics, traces)
    check_or_exit(services.store, settings, parts.parking)
    flows = build_flows(parts)
    keep_secrets(flows.refresh.clients)
    broker.add_middleware(RecoveryThread(flows.recover_tokens))
    broker.add_middleware(parts.publisher)
    broker.add_middleware(CountMessages(metrics), before=AgeLimit)
    if traces.is_on:
        broker.add_middleware(TraceMessages(traces), before=CountMessages)
    declare_actors(broker, flows)
    services.now.watch()
    if exposition is not None:
        exposition.start()


def open_metrics(settings: Settings, traces: Traces) -> tuple[Metrics, Exposition | None]:
    """Return what this process counts with, and what shows it; a worker works without the latter, too."""
    address = settings.metrics_address
    if address is None:
        return Metrics(), None
    try:
        metrics, registry, directory = share_metrics()
    except DirectoryUnusable as error:
        structlog.get_logger("metrics").error("metrics.not_shared", error=str(error))
        metrics = Metrics(exemplar=traces.exemplar)
        return metrics, Exposition(address, metrics.registry, on_round=metrics.fade)
    return metrics, Exposition(address, registry, directory / "listener.lock", metrics.fade)


def keep_secrets(clients: OAuthClients) -> None:
    """Store the secrets of the clients in the settings; if the database is away, the next answer stores them."""
    try:
        clients.keep_secrets()
    except SyncError as error:
        structlog.get_logger("boot").warning("client_secrets.not_kept", error=str(error))


def read_or_exit(*needs: Need) -> Settings:
    """Return the settings, or end the process with 1 and every problem with them."""
    try:
        return read_settings(needs=needs)
    except SettingsError as error:
        raise SystemExit(str(error)) from None


@dataclass(frozen=True, slots=True)
class Parts:
    """What the flows, the web application and the command line are built from, each of it once in a process."""

    settings: Settings
    services: Services
    vault: Vault
    clients: OAuthClients
    providers: Mapping[str, ProviderClient]
    parking: Parking
    publish: PublishEvents
    publisher: Publisher
    metrics: Metrics

    @property
    def send(self) -> Callable[[Message], None]:
        return self.publisher.send


def build_parts(
    settings: Settings, services: Services, metrics: Metrics | None = None, traces: Traces | None = None
) -> Parts:
    """Build what depends on keys and providers; nothing is connected to yet."""
    vault = open_vault(settings)
    metrics, traces = metrics or Metrics(), traces or Traces()
    publish = PublishEvents(services.store, services.redis, stream_settings(settings), services.now, metrics)
    budgets = Budgets(open_hasty_redis(settings.redis_url, repeats_what_timed_out=False))
    return Parts(
        settings=settings,
        services=services,
        vault=vault,
        clients=OAuthClients(services.store, vault, settings.clients),
        providers={
            provider.name: ProviderClient(
                provider, services.now, budgets, proxies=settings.proxies, metrics=metrics, traces=traces
            )
            for provider in settings.providers
        },
        parking=Parking(vault, open_redis(settings.redis_url, decode=False), settings.spool),
        publish=publish,
        publisher=Publisher(publish, services.queue.send),
        metrics=metrics,
    )


def check_or_exit(store: Store, settings: Settings, parking: Parking) -> None:
    """End the process with 1 if a key that is needed is missing or wrong; with no database, rows say it later."""
    try:
        trouble = find_key_trouble(store, settings, parking)
    except SyncError as error:
        structlog.get_logger("boot").warning("keys.not_checked", error=str(error))
        return
    if trouble is not None:
        raise SystemExit(trouble)


def build_flows(parts: Parts) -> Flows:
    """Return the flows with what they depend on."""
    store, vault, clients, providers = parts.services.store, parts.vault, parts.clients, parts.providers
    parking, send, settings, now = parts.parking, parts.send, parts.settings, parts.services.now
    metrics = parts.metrics
    return Flows(
        exchange=Exchange(store, vault, clients, providers, parking, send, now),
        confirm=Confirm(store, send, now),
        refresh=Refresh(store, vault, clients, providers, parking, send, now, settings.sync_interval, metrics),
        sync=Sync(store, vault, providers, send, now, settings.sync_interval, metrics=metrics),
        sync_user=SyncUser(store, send, now),
        disconnect=Disconnect(store, vault, providers, parking, send, now),
        revoke=Revoke(store, vault, clients, providers, send, now),
        probe_client=ProbeClient(store, clients, providers, send, now),
        recover_tokens=RecoverTokens(store, vault, clients, providers, parking, send, now),
        call=CarryOutCall(store, vault, providers, send, now, KeptAnswers(vault, parking.redis), metrics),
        publish=parts.publish,
        deliver_webhooks=DeliverWebhooks(store, vault, now, settings.proxies, metrics),
    )


def build_web(
    settings: Settings,
    services: Services,
    lifespan: Lifespan[Starlette] | None = None,
    traces: Traces | None = None,
) -> ASGIApp:
    """Return the public application with what it depends on; it has no key that opens anything."""
    if settings.sealing_key is None:
        raise AssertionError("the web process was started without a sealing key")
    callback = Callback(
        store=services.store,
        sealer=Sealer(settings.sealing_key),
        providers={provider.name: provider for provider in settings.providers},
        clients={client.provider: client for client in reversed(settings.registrations)},
        connect_secrets=settings.connect_secrets,
        return_origins=settings.return_origins,
        send=services.queue.send,
        now=services.now,
        confirmation=settings.confirmation,
        app_name=settings.app_name,
    )
    hooks = Hooks(services.store, callback.providers, settings.hooks, services.queue.send, services.now)
    return build_app(callback, Allowance(proxies=settings.trusted_proxies), lifespan, hooks, traces or Traces())


def build_operator(settings: Settings, services: Services) -> ASGIApp:
    """Return the operator's application with what it depends on."""
    store = services.store

    def check_database() -> None:
        with store.reading() as tx:
            tx.overview.time()

    checks: dict[str, Callable[[], object]] = {
        "database": check_database,
        "schema": store.check,
        "redis": WritableRedis(open_hasty_redis(settings.redis_url)),
    }
    registry = build_registry(store, services.now, services.queues.depths, services.now.offset)
    token = settings.operator_token
    return build_operator_app(checks, registry, [] if token is None else build_page(settings, services, token))


def web() -> ASGIApp:
    """What `uvicorn --factory worker.main:web` calls: the public application, and the operator's beside it."""
    configure_logging()
    settings = read_or_exit("sealing", "registrations", "links")
    harden_caller(Bounds(proxies=settings.trusted_proxies))
    listener = listen_or_exit(settings)
    traces = start_tracing("web", read_version())
    services = replace(open_services(settings, "web"), traceparent=traces.traceparent)
    services.now.watch()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        with ExitStack() as stack:
            if listener is not None:
                stack.enter_context(serving_beside(build_operator(settings, services), listener))
            yield
            exit_within(timedelta(seconds=5))  # a request that is under way may hang
            traces.close()

    return build_web(settings, services, lifespan, traces)


def build_gateway(
    settings: Settings, services: Services, metrics: Metrics, vault: Vault, traces: Traces | None = None
) -> tuple[ASGIApp, Office]:
    """Return the gateway's application, and what is to be closed after its last call."""
    traces = traces or Traces()
    desk = Desk(
        store=services.store,
        vault=vault,
        providers={provider.name: provider for provider in settings.providers},
        budgets=Budgets(open_hasty_redis(settings.redis_url, repeats_what_timed_out=False)),
        send=services.queue.send,
        now=services.now,
    )
    office = Office(desk, AsyncRouted(settings.proxies))
    redis = WritableRedis(open_hasty_redis(settings.redis_url))
    checks: dict[str, Callable[[], object]] = {"database": services.store.check, "redis": redis}
    door = Door(settings.gateway_keys, office, metrics)
    shell = Shell(office, door, checks, describe_gateway(read_version()), metrics, traces)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        exit_within(timedelta(seconds=5))
        await office.aclose()
        traces.close()

    return build_gateway_app(shell, lifespan), office


def gateway() -> ASGIApp:
    """What `uvicorn --factory worker.main:gateway` calls: tokens and calls for the application's servers."""
    configure_logging()
    settings = read_or_exit("keys", "gateway")
    harden_caller(gateway_bounds, stop_seconds=gateway_stop_seconds)
    traces = start_tracing("gateway", read_version())
    services = replace(open_services(settings, "gateway"), traceparent=traces.traceparent)
    metrics = Metrics(families=in_gateway, exemplar=traces.exemplar)
    if settings.metrics_address is not None:
        Exposition(settings.metrics_address, metrics.registry).start()
    services.now.watch()
    app, _ = build_gateway(settings, services, metrics, open_vault(settings), traces)
    return app


def operator() -> ASGIApp:
    """What `uvicorn --factory worker.main:operator` calls: the operator's application alone."""
    configure_logging()
    settings = read_or_exit()
    harden_caller(Bounds())
    services = open_services(settings, "operator")
    services.now.watch()
    return build_operator(settings, services)


def listen_or_exit(settings: Settings) -> socket.socket | None:
    """Return the operator's listener, None if there is to be none; or end the process with 1 and the remedy."""
    address = settings.operator_address
    if address is None:
        return None
    try:
        return listen_at(address.host, address.port)
    except AddressUnusable as reason:
        raise SystemExit(
            f"OPERATOR_ADDRESS: {reason}. Stop it, set OPERATOR_ADDRESS to another HOST:PORT, or to nothing for none."
        ) from None
