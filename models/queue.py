"""Dramatiq's queues in Redis: their depth, their dead letters, and how a message is sent."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import dramatiq
import redis
import structlog
from dramatiq.brokers.redis import RedisBroker

from models.errors import RedisUnavailable
from models.messaging.messages import QUEUES, Message
from models.messaging.trace_context import option

queue_names = tuple(sorted(set(QUEUES.values())))
marker_key = "breezesync:queue"
ready_key = "breezesync:ready"
name_server = """
local run_id = string.match(redis.call("info", "server"), "run_id:(%x+)")
return redis.call("set", KEYS[1], run_id, "get") == run_id"""
"""Write the run id of the server under the marker, and return 1 if it was there already. A read would not do: a server
that has become a replica would answer it."""
add_message = """
redis.call("hset", KEYS[1], ARGV[1], ARGV[2])
return redis.call("rpush", KEYS[2], ARGV[1])"""
"""Keep a message's text, and add its key to the queue."""
most_at_once = 500
"""Messages that Redis takes in one step, which takes it about a millisecond."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that failed for good; `id` is the message's own, `key` its key among the dead letters of its queue.

    Its `kwargs` are to be shown: a one-time value among them is masked.
    """

    id: str
    key: str
    queue: str
    actor: str
    kwargs: dict[str, Any]
    died_at: datetime
    retries: int
    error: str


@dataclass(frozen=True, slots=True)
class Depth:
    """A queue's messages: waiting, in work or delayed, and dead."""

    waiting: int
    under_way: int
    dead: int


@dataclass(frozen=True, slots=True)
class Queues:
    """`client` decodes its answers. Every method raises redis-py's errors."""

    broker: RedisBroker
    client: redis.Redis

    def send(self, message: Message) -> None:
        _enqueue(self.broker, message)

    def depths(self) -> dict[str, Depth]:
        return {name: self._depth(name) for name in queue_names}

    def dead_letters(self, most_each: int | None = None) -> Sequence[DeadLetter]:
        """All of them, or the newest of each queue, the oldest first; an unreadable one has no actor."""
        letters = (letter for queue in queue_names for letter in self._dead_of(queue, most_each))
        return sorted(letters, key=lambda letter: letter.died_at)

    def dead_letter(self, queue: str, key: str) -> DeadLetter | None:
        """Return the one that its queue keeps under this key."""
        dead = self._dead_key(queue)
        died_ms: Any = self.client.zscore(dead, key)
        if queue not in queue_names or died_ms is None:
            return None
        text = self.client.hget(f"{dead}.msgs", key)
        return _read_dead(queue, key, float(died_ms), None if text is None else str(text))

    def retry(self, letter: DeadLetter) -> bool:
        """Send it again with all its retries, then drop the dead letter; return False if someone else did so first.

        Its id and the time when it was first sent stay: what it asks for may have been overtaken meanwhile. In this
        order a crash leaves the message twice, which is harmless, and never not at all.
        """
        dead = self._dead_key(letter.queue)
        text = self.client.hget(f"{dead}.msgs", letter.key)
        if text is None or self.client.zscore(dead, letter.key) is None:
            return False
        message = dramatiq.Message.decode(str(text).encode())
        self.broker.enqueue(replace(message, queue_name=letter.queue, options={}))
        self.drop(letter)
        return True

    def drop(self, letter: DeadLetter) -> bool:
        """Delete it; return False if it was gone already."""
        dead = self._dead_key(letter.queue)
        with self.client.pipeline(transaction=True) as pipeline:
            pipeline.zrem(dead, letter.key)
            pipeline.hdel(f"{dead}.msgs", letter.key)
            removed, _ = pipeline.execute()
        return bool(removed)

    def _dead_of(self, queue: str, most: int | None) -> Iterator[DeadLetter]:
        dead = self._dead_key(queue)
        times: list[Any] = self.client.zrange(dead, 0 if most is None else -most, -1, withscores=True)
        texts = self.client.hmget(f"{dead}.msgs", [key for key, _ in times]) if times else []
        for (key, died_ms), text in zip(times, texts, strict=True):
            yield _read_dead(queue, str(key), float(died_ms), None if text is None else str(text))

    def _depth(self, queue: str) -> Depth:
        keys = [self._key(queue), self._key(f"{queue}.DQ")]
        with self.client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.llen(key)
            for key in keys:
                pipeline.hlen(f"{key}.msgs")
            pipeline.zcard(self._dead_key(queue))
            *counts, dead = pipeline.execute()
        waiting = sum(counts[: len(keys)])
        return Depth(waiting, max(sum(counts[len(keys) :]) - waiting, 0), dead)

    def _key(self, queue: str) -> str:
        return f"{self.broker.namespace}:{queue}"

    def _dead_key(self, queue: str) -> str:
        return f"{self._key(queue)}.XQ"


class MessageQueue:
    """Sends messages through the broker, and notices when the queue was emptied.

    `traceparent` returns the trace that a message sent now belongs to, if there is one.
    """

    def __init__(
        self, broker: RedisBroker, client: redis.Redis, traceparent: Callable[[], str | None] = lambda: None
    ) -> None:
        self.broker = broker
        self.client = client
        self.traceparent = traceparent
        self._name_server: Any = client.register_script(name_server)

    def send(self, message: Message) -> None:
        """Send it if Redis answers; otherwise the sweep does, for its due time is in the database."""
        try:
            _enqueue(self.broker, message, self.traceparent())
        except redis.RedisError as error:
            log = structlog.get_logger("queue")
            log.warning("message.left_to_sweep", actor=message.actor, error=type(error).__name__)

    def send_all(self, batch: Sequence[Message]) -> None:
        """Send all in a few round trips, or raise `RedisUnavailable`; some may have left by then."""
        try:
            for first in range(0, len(batch), most_at_once):
                _enqueue_all(self.broker, batch[first : first + most_at_once])
        except redis.RedisError as error:
            raise RedisUnavailable("Redis does not take messages") from error

    def was_emptied(self) -> bool:
        """True for one caller after Redis was restarted, emptied, or seen for the first time.

        Raises `RedisUnavailable` while it is away.
        """
        try:
            return not self._name_server(keys=[marker_key])
        except redis.RedisError as error:
            raise RedisUnavailable("Redis does not answer") from error

    def count_waiting(self) -> Mapping[str, int]:
        """Return how many messages of each queue no worker has taken yet. Raises `RedisUnavailable` while Redis is
        away."""
        try:
            with self.client.pipeline(transaction=False) as pipeline:
                for queue in queue_names:
                    pipeline.llen(f"{self.broker.namespace}:{queue}")
                return dict(zip(queue_names, pipeline.execute(), strict=True))
        except redis.RedisError as error:
            raise RedisUnavailable("Redis does not answer") from error


def find_type(client: redis.Redis, key: str) -> str | None:
    """Return the type of a key, "none" if there is no such key, or None if Redis does not say."""
    try:
        found: Any = client.type(key)
    except redis.RedisError:
        return None
    return found.decode() if isinstance(found, bytes) else str(found)


def expected_types() -> dict[str, str]:
    """Return the type that each key of the queues has, once it exists."""
    types = {marker_key: "string"}
    for queue in queue_names:
        key = f"dramatiq:{queue}"
        types |= {key: "list", f"{key}.DQ": "list", f"{key}.XQ": "zset"}
        types |= {f"{key}{part}.msgs": "hash" for part in ("", ".DQ", ".XQ")}
    return types


@dataclass(frozen=True, slots=True)
class WritableRedis:
    """Check that Redis is a primary and takes writes; `client` decodes its answers."""

    client: redis.Redis

    def __call__(self) -> None:
        """Raise `RedisUnavailable` if it does not answer, is a replica, or refuses a write: it is full, or its disk
        is."""
        try:
            role = self.client.info("replication")["role"]
            self.client.set(ready_key, "1", px=60_000)
        except redis.RedisError as error:
            raise RedisUnavailable(f"Redis takes no writes ({type(error).__name__})") from error
        if role != "master":
            raise RedisUnavailable(f"Redis is a {role}, not a primary")


def _enqueue(broker: RedisBroker, message: Message, traceparent: str | None = None) -> None:
    """Do what `_enqueue_all` does, for one message in one command."""
    key, name = str(uuid4()), f"{broker.namespace}:{message.queue}"
    traced = {} if traceparent is None else {option: traceparent}
    text = _to_dramatiq(message, redis_message_id=key, **traced).encode()
    client: Any = broker.client
    client.register_script(add_message)(keys=[f"{name}.msgs", name], args=[key, text])


def _enqueue_all(broker: RedisBroker, batch: Sequence[Message]) -> None:
    """Do what `RedisBroker.enqueue` does, for all of the batch in one round trip, each queue in the batch's order.

    Its script keeps the text of a message in a hash, and then adds the text's key to the queue: here one command adds
    many. The rest of what the script does at each enqueue, to look for messages of dead workers, every fetch does too.
    No middleware of ours acts on an enqueue.
    """
    texts: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
    for message in batch:
        key = str(uuid4())
        texts[message.queue][key] = _to_dramatiq(message, redis_message_id=key).encode()
    with broker.client.pipeline(transaction=True) as pipeline:
        for queue, of_queue in texts.items():
            name = f"{broker.namespace}:{queue}"
            mapping: Mapping[Any, Any] = of_queue
            pipeline.hset(f"{name}.msgs", mapping=mapping)
            pipeline.rpush(name, *of_queue)
        pipeline.execute()


def _to_dramatiq(message: Message, **options: str) -> dramatiq.Message[Any]:
    kwargs = dict(message.kwargs)
    return dramatiq.Message(
        queue_name=message.queue, actor_name=message.actor, args=(), kwargs=kwargs, options=dict(options)
    )


def _read_dead(queue: str, key: str, died_ms: float, text: str | None) -> DeadLetter:
    died_at = datetime.fromtimestamp(died_ms / 1000, UTC)
    unreadable = DeadLetter(key, key, queue, "", {}, died_at, 0, "the message can't be read")
    try:
        message = dramatiq.Message.decode((text or "").encode())
    except dramatiq.DecodeError:
        return unreadable
    kwargs, options = message.kwargs, message.options
    if not isinstance(kwargs, dict) or not isinstance(options, dict):
        return unreadable
    retries = options.get("retries", 0)
    return DeadLetter(
        id=str(message.message_id),
        key=key,
        queue=queue,
        actor=str(message.actor_name),
        kwargs={name: "***" if name == "confirmation" else value for name, value in kwargs.items()},
        died_at=died_at,
        retries=retries if isinstance(retries, int) else 0,
        error=_last_line(options.get("traceback")),
    )


def _last_line(traceback: object) -> str:
    lines = str(traceback or "").strip().splitlines()
    return lines[-1].strip()[:300] if lines else ""
