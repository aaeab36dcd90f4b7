"""The worker process."""

import gc
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import dramatiq
import structlog
from dramatiq.middleware import AgeLimit, Middleware

from config.exposition import Exposition
from config.heartbeat import Heartbeat
from config.logs import configure_logging
from config.settings import Settings
from config.stopping import exit_within, longest_stop
from config.version import read_version
from config.wiring import open_services
from models.errors import SyncError
from models.store import Store
from worker.actors import declare_actors
from worker.metrics.counters import Metrics
from worker.metrics.group import DirectoryUnusable, share_metrics
from worker.metrics.messages import CountMessages
from worker.oauth.recover_tokens import RecoveryThread
from worker.processes.parts import build_flows, build_parts
from worker.processes.settings import read_or_exit
from worker.queue.broker import Broker, KeepReason
from worker.queue.liveness import Pulse
from worker.queue.trace_messages import TraceMessages
from worker.startup import find_key_trouble
from worker.tokens.oauth_clients import OAuthClients
from worker.tokens.spool import Parking
from worker.tracing.spans import Traces
from worker.tracing.start import start_tracing

most_new_objects = 20_000
"""How many more objects that may be in a cycle there are when Python looks for cycles that nothing uses."""


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
    """Read the settings, set the broker, and declare the actors."""
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
    spare_collections()


def spare_collections() -> None:
    """Look for unused cycles less often than after 700 objects, and never among what was imported.

    A page is thousands of objects in no cycle, which are freed at once without that: a first sync of 300 documents
    spent 4 % of its CPU on the search.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(most_new_objects)


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


def check_or_exit(store: Store, settings: Settings, parking: Parking) -> None:
    """End the process with 1 if a key that is needed is missing or wrong; with no database, rows say it later."""
    try:
        trouble = find_key_trouble(store, settings, parking)
    except SyncError as error:
        structlog.get_logger("boot").warning("keys.not_checked", error=str(error))
        return
    if trouble is not None:
        raise SystemExit(trouble)
