"""Settings to live objects: the store, Redis, the broker with its middleware, and the way messages are sent."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import dramatiq
import redis
import structlog
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AgeLimit, Callbacks, CurrentMessage, Middleware, Retries
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.redis_url import connect
from config.settings import Settings
from models.crypto.secrets import Secret
from models.errors import Transient
from models.messaging.events import Stream, StreamSettings
from models.messaging.messages import Message
from models.store import Store, open_engine

heartbeat_timeout_ms = 15_000
marker_key = "breezesync:queue"


class QueueUnavailable(Transient):
    """Redis does not take messages just now."""


def now() -> datetime:
    return datetime.now(UTC)


def open_store(settings: Settings) -> Store:
    return Store(open_engine(settings.database_url))


def open_redis(url: Secret, decode: bool = True) -> redis.Redis:
    """A client that gives up on a silent server after a few seconds."""
    return connect(url, socket_timeout=10, socket_connect_timeout=5, health_check_interval=30, decode_responses=decode)


def open_hasty_redis(url: Secret) -> redis.Redis:
    """A client for those whom nothing may hold up: it gives up after two seconds, and tries once more."""
    once_more = Retry(NoBackoff(), 1)
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
    return kind(
        client=open_redis(settings.redis_url, decode=False),
        middleware=middleware,
        maintenance_chance=1_000_000,
        heartbeat_timeout=heartbeat_timeout_ms,
    )


class MessageQueue:
    """Sends messages through the broker, and notices when the queue was emptied."""

    def __init__(self, broker: RedisBroker, client: redis.Redis) -> None:
        self.broker = broker
        self.client = client

    def send(self, message: Message) -> None:
        """Sends it, or lets it be: whatever a message asks for is due in the database as well."""
        try:
            self._enqueue(message)
        except redis.RedisError as error:
            log = structlog.get_logger("queue")
            log.warning("message.left_to_sweep", actor=message.actor, error=type(error).__name__)

    def send_all(self, batch: Sequence[Message]) -> None:
        """Sends all or raises `QueueUnavailable`."""
        try:
            for message in batch:
                self._enqueue(message)
        except redis.RedisError as error:
            raise QueueUnavailable("Redis does not take messages") from error

    def was_emptied(self) -> bool:
        """True for one caller after Redis was started anew, emptied, or seen for the first time.

        Raises `QueueUnavailable` while it is away.
        """
        try:
            run_id = self.client.info("server")["run_id"]
            return bool(self.client.set(marker_key, run_id, get=True) != run_id)
        except redis.RedisError as error:
            raise QueueUnavailable("Redis does not answer") from error

    def count_waiting(self, queue: str) -> int:
        """How many messages of this queue no worker has taken yet. Raises `QueueUnavailable` while Redis is away."""
        try:
            return self.client.llen(f"{self.broker.namespace}:{queue}")
        except redis.RedisError as error:
            raise QueueUnavailable("Redis does not answer") from error

    def _enqueue(self, message: Message) -> None:
        self.broker.enqueue(
            dramatiq.Message(
                queue_name=message.queue, actor_name=message.actor, args=(), kwargs=dict(message.kwargs), options={}
            )
        )
