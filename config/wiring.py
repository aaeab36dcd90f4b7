"""Opens what the settings name: the store, Redis, and the broker with its middleware."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AgeLimit, Callbacks, CurrentMessage, Middleware, Retries
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.clock import FleetClock
from config.process_reports import ProcessReporter, name_process
from config.redis_url import connect
from config.settings import Settings
from config.version import read_version
from models.clock import Anchor
from models.crypto.secrets import Secret
from models.messaging.events import Stream, StreamSettings
from models.queue import MessageQueue, Queues
from models.store import Store, open_engine

heartbeat_timeout_ms = 15_000
callers_time = "local timestamp = ARGV[2]"
redis_time = """local clock = redis.call("time")
local timestamp = string.format("%.0f", clock[1] * 1000 + math.floor(clock[2] / 1000))"""


def now() -> datetime:
    """Return this machine's time, for what no other machine compares: only `open_clock` is the fleet's."""
    return datetime.now(UTC)


def open_store(settings: Settings, actor: str) -> Store:
    """Open the database for a process that the audit names by `actor`."""
    return Store(open_engine(settings.database_url), actor)


def open_clock(store: Store, on_measured: Callable[[Anchor], None]) -> FleetClock:
    """Return the fleet's clock; nothing is asked before it is read."""
    return FleetClock(lambda: store.read_once(lambda tx: tx.overview.time()), on_measured=on_measured)


def open_redis(url: Secret, decode: bool = True) -> redis.Redis:
    """A client that gives up on a silent server after a few seconds."""
    return connect(url, socket_timeout=10, socket_connect_timeout=5, health_check_interval=30, decode_responses=decode)


def open_hasty_redis(url: Secret, repeats_what_timed_out: bool = True) -> redis.Redis:
    """A client for callers that must not wait: it gives up after two seconds and retries once.

    A command whose answer did not come in time may have been carried out: what may not be done twice is not repeated.
    """
    errors: tuple[type[Exception], ...] = (redis.ConnectionError, redis.TimeoutError)
    once_more = Retry(NoBackoff(), 1, supported_errors=errors if repeats_what_timed_out else errors[:1])
    return connect(url, socket_timeout=2, socket_connect_timeout=2, retry=once_more, decode_responses=True)


def stream_settings(settings: Settings) -> Mapping[Stream, StreamSettings]:
    return {
        "events": StreamSettings(settings.events_stream, settings.events_maxlen),
        "records": StreamSettings(settings.records_stream, settings.records_maxlen),
    }


def build_broker(
    settings: Settings, more: Sequence[Middleware] = (), kind: Callable[..., RedisBroker] = RedisBroker
) -> RedisBroker:
    """A broker that looks for messages of dead workers at every command, and interrupts no running actor.

    Without Dramatiq's TimeLimit and ShutdownNotifications nothing is raised into a thread from outside, whatever a
    message's options ask for: between a token endpoint's answer and its save there is no such moment. Each flow has
    deadlines of its own. A Redis that falls silent is given up on and asked again: a consumer that waits for its
    answer for ever would look alive and do nothing.
    """
    middleware = [AgeLimit(), Callbacks(), CurrentMessage(), Retries(), *more]
    broker = kind(
        client=open_redis(settings.redis_url, decode=False),
        middleware=middleware,
        maintenance_chance=1_000_000,
        heartbeat_timeout=heartbeat_timeout_ms,
    )
    use_redis_time(broker)
    return broker


def use_redis_time(broker: RedisBroker) -> None:
    """Have Dramatiq's script read Redis's clock where it takes the caller's.

    By a caller's clock, a machine that is a minute ahead takes every other worker for dead, and hands out its messages
    a second time. Raises `ValueError` if this version of Dramatiq has another script.
    """
    client: Any = broker.client
    scripts: Any = broker.scripts
    source = scripts["dispatch"].script
    source = source.decode() if isinstance(source, bytes) else source
    if source.count(callers_time) != 1:
        raise ValueError("this version of Dramatiq takes the time in another way: use_redis_time has to be changed")
    scripts["dispatch"] = client.register_script(source.replace(callers_time, redis_time))


@dataclass(frozen=True, slots=True)
class Services:
    """The database and Redis as one process uses them; neither is connected to before it is used.

    `redis` decodes its answers; `now` is the fleet's time; `traceparent` names the trace of a message that is sent now.
    """

    store: Store
    redis: redis.Redis
    broker: RedisBroker
    now: FleetClock
    traceparent: Callable[[], str | None] = lambda: None

    @property
    def queue(self) -> MessageQueue:
        return MessageQueue(self.broker, self.redis, self.traceparent)

    @property
    def queues(self) -> Queues:
        return Queues(self.broker, self.redis)

    def close(self) -> None:
        self.store.close()
        self.broker.client.close()
        self.redis.close()


def open_services(
    settings: Settings,
    actor: str,
    more: Sequence[Middleware] = (),
    kind: Callable[..., RedisBroker] = RedisBroker,
) -> Services:
    """Open what every process needs; the broker is of this kind, with more middleware than the usual.

    `actor` is whom the audit names for what the process does.
    """
    store = open_store(settings, actor)
    name = name_process(actor)
    hasty = open_hasty_redis(settings.redis_url)
    clock = open_clock(store, ProcessReporter(store, hasty, name, actor, read_version()))
    return Services(store, open_redis(settings.redis_url), build_broker(settings, more, kind), clock)
