"""Builds the worker and the web application from the settings."""

from collections.abc import Callable
from functools import partial
from typing import Any

import dramatiq
import structlog
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Middleware
from starlette.applications import Starlette

from config.heartbeat import Heartbeat
from config.logs import configure_logging
from config.settings import Need, Settings, SettingsError, read_settings
from config.wiring import build_broker, now, open_hasty_redis, open_redis, open_store, stream_settings
from models.crypto.vault import Vault
from models.errors import SyncError
from models.queue import MessageQueue, Queues
from worker.actors import Flows, declare_actors
from worker.oauth.disconnect import Disconnect
from worker.oauth.exchange import Exchange
from worker.oauth.recover_tokens import TakeIn, TakesIn
from worker.oauth.refresh import Refresh
from worker.oauth.revoke import Revoke
from worker.provider.client import ProviderClient
from worker.provider.rate_limit import Budgets
from worker.queue.liveness import Pulse, WatchedBroker
from worker.queue.publish import PublishEvents
from worker.queue.screening import KeepReason
from worker.sync.run import Sync
from worker.sync.user import SyncUser
from worker.tokens.oauth_clients import ClientBook
from worker.tokens.spool import Parking
from worker.web.app import build_app
from worker.web.callback import Callback
from worker.web.metrics import build_registry


class BindIds(Middleware):
    """Puts a message's ids on every log line that its actor writes."""

    known = frozenset({"authorization_id", "connection_id", "revocation_id", "user_id", "provider"})

    def before_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        ids = {name: value for name, value in message.kwargs.items() if name in self.known and isinstance(value, str)}
        structlog.contextvars.bind_contextvars(message_id=message.message_id, actor=message.actor_name, **ids)

    def after_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy, **outcome: Any) -> None:
        structlog.contextvars.clear_contextvars()

    after_skip_message = after_process_message


def boot() -> None:
    """What `dramatiq worker.main:boot` calls: reads the settings, sets the broker, declares the actors."""
    configure_logging()
    settings = read_or_exit("keys", "clients")
    pulse = Pulse(Heartbeat(settings.heartbeat_file).beat)
    broker = build_broker(settings, [BindIds(), KeepReason(), pulse], partial(WatchedBroker, pulse.came_round))
    dramatiq.set_broker(broker)
    flows = build_flows(settings, broker)
    keep_secrets(flows.refresh.clients)
    broker.add_middleware(TakesIn(flows.take_in))
    declare_actors(broker, flows)


def keep_secrets(clients: ClientBook) -> None:
    """What the settings know of their clients outlives them; where the database is away, the next answer keeps it."""
    try:
        clients.keep_secrets()
    except SyncError as error:
        structlog.get_logger("boot").warning("client_secrets.not_kept", error=str(error))


def read_or_exit(*needs: Need) -> Settings:
    """The settings; where they can't be used, a process that starts ends with 1 and says what is wrong with them."""
    try:
        return read_settings(needs=needs)
    except SettingsError as error:
        raise SystemExit(str(error)) from None


def build_flows(settings: Settings, broker: RedisBroker) -> Flows:
    """The flows with what they depend on."""
    store, vault = open_store(settings), Vault(settings.encryption_keys)
    client = open_redis(settings.redis_url)
    send = MessageQueue(broker, client).send
    clients = ClientBook(store, vault, settings.clients)
    parking = Parking(vault, open_redis(settings.redis_url, decode=False), settings.spool)
    budgets = Budgets(open_hasty_redis(settings.redis_url))
    providers = {
        provider.name: ProviderClient(provider, now, budgets, proxies=settings.proxies)
        for provider in settings.providers
    }
    return Flows(
        exchange=Exchange(store, vault, clients, providers, parking, send, now),
        refresh=Refresh(store, vault, clients, providers, parking, send, now),
        sync=Sync(store, vault, providers, send, now, settings.sync_interval),
        sync_user=SyncUser(store, send),
        disconnect=Disconnect(store, vault, providers, parking, send, now),
        revoke=Revoke(store, vault, clients, providers, send, now),
        take_in=TakeIn(store, vault, clients, providers, parking, send, now),
        publish=PublishEvents(store, client, stream_settings(settings), now),
    )


def web() -> Starlette:
    """What `uvicorn --factory worker.main:web` calls."""
    configure_logging()
    settings = read_or_exit("keys", "clients", "links")
    store, client = open_store(settings), open_redis(settings.redis_url)
    broker = build_broker(settings)
    queue = MessageQueue(broker, client)
    callback = Callback(
        store=store,
        vault=Vault(settings.encryption_keys),
        providers={provider.name: provider for provider in settings.providers},
        clients={client.provider: client for client in reversed(settings.clients)},
        connect_secrets=settings.connect_secrets,
        return_origins=settings.return_origins,
        send=queue.send,
        now=now,
    )

    def check_database() -> None:
        with store.reading() as tx:
            tx.overview.time()

    parts: dict[str, Callable[[], object]] = {"database": check_database, "schema": store.check, "redis": client.ping}
    return build_app(callback, parts, build_registry(store, now, Queues(broker, client).depths))
