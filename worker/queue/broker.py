"""The workers' Redis broker: it screens what it fetches, finds messages that were lost on their way, reports rounds.

A worker moves messages from a queue into a set of its own, in one step at the server. If the answer to that step is
lost, the messages stay in the set, the worker does not know of them, and Dramatiq gives them to another worker only
after this one ends. Delayed messages are lost the same way when their consumer loses its connection.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import structlog
from dramatiq import Broker as DramatiqBroker
from dramatiq import Consumer, MessageProxy
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import ConnectionClosed
from dramatiq.middleware import Middleware
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from models.messaging.messages import explain_refusal, find_fault, keep_known_options
from worker.queue.waits import Waits

RECLAIM_SECONDS = 10.0
fetches_a_heartbeat = 3
"""An idle consumer fetches so often within a heartbeat's time: a fetch says that this worker lives, and hands out what
dead ones had."""


@dataclass(slots=True)
class InHand:
    """The messages of one queue that a process has, by the ids that the queue knows.

    `fetched` wait in its consumer; `passed_on` are with its threads or, if delayed, wait for their time.
    """

    fetched: set[str] = field(default_factory=set)
    passed_on: set[str] = field(default_factory=set)


def find_lost(taken: Collection[str], in_hand: InHand) -> set[str]:
    """Return what the queue counts as taken by this process and the process does not have."""
    return set(taken) - in_hand.fetched - in_hand.passed_on


class KeepReason(Middleware):
    """Write into a message that dies at once why it did: Dramatiq does that only for messages it tries again."""

    def before_nack(self, broker: DramatiqBroker, message: MessageProxy) -> None:
        error = message._exception
        if error is None or "traceback" in message.options or not isinstance(broker, RedisBroker):
            return
        message.options["traceback"] = f"{type(error).__name__}: {error}"
        key = f"{broker.namespace}:{message.queue_name}.msgs"
        broker.client.hset(key, message.options["redis_message_id"], message.encode())


fetched_texts = 'return redis.call("hmget", queue_messages, unpack(message_ids))'


def _name_fetched(broker: RedisBroker) -> None:
    """Have Dramatiq's script return the keys of the messages that it fetches beside their texts.

    What a message says of its own key is not to be believed: acknowledged by another's, it would come back for ever.
    Raises `ValueError` if this version of Dramatiq has another script.
    """
    client: Any = broker.client
    scripts: Any = broker.scripts
    source = scripts["dispatch"].script
    source = source.decode() if isinstance(source, bytes) else source
    if source.count(fetched_texts) != 1:
        raise ValueError("this version of Dramatiq fetches in another way: _name_fetched has to be changed")
    named = fetched_texts.replace("return ", "return {message_ids, ") + "}"
    scripts["dispatch"] = client.register_script(source.replace(fetched_texts, named))


class Broker(RedisBroker):
    """A Redis broker that consumes nothing unreadable and loses nothing it has fetched.

    Dramatiq's own consumer stops at the first text that it can't read and forgets the good messages fetched with it,
    and a message that names another queue than its own, or an option of the wrong kind, ends a worker's thread.
    `on_round` is called with a queue's name whenever its consumer has asked for messages; every `reclaim_every` seconds
    a consumer looks for lost messages.
    """

    def __init__(
        self,
        *,
        on_round: Callable[[str], None] = lambda queue_name: None,
        reclaim_every: float = RECLAIM_SECONDS,
        **parameters: Any,
    ) -> None:
        super().__init__(**parameters)  # type: ignore[no-untyped-call]
        _name_fetched(self)
        self.on_round = on_round
        self.reclaim_every = reclaim_every
        self.in_hand: defaultdict[str, InHand] = defaultdict(InHand)
        self.waits = Waits()
        self.add_middleware(self.waits)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        """Return a new consumer, also called when one restarts after an error: that is a round as well.

        A new consumer has fetched nothing yet, and one of delayed messages has forgotten those that waited in it.
        """
        self.on_round(queue_name)
        in_hand = self.in_hand[queue_name]
        in_hand.fetched.clear()
        if queue_name.endswith(".DQ"):
            in_hand.passed_on.clear()
        consumer = super().consume(queue_name, prefetch, timeout)
        return TrackingConsumer(self, queue_name, consumer, in_hand, timeout / 1000, monotonic() + self.reclaim_every)

    def do_fetch(self, queue_name: str, count: int) -> Sequence[bytes]:
        """Return up to `count` readable messages of the queue, which count as in hand from now on."""
        readable = self.fetch_readable(queue_name, count)
        self.in_hand[queue_name].fetched |= readable.keys()
        return list(readable.values())

    def fetch_readable(self, queue_name: str, count: int) -> Mapping[str, bytes]:
        """Fetch up to `count` messages by their keys in the queue, and make dead letters of what is none."""
        fetched: Sequence[Sequence[bytes | None]] = self._dispatch("fetch")(queue_name, count)  # type: ignore[no-untyped-call]
        readable = {}
        for raw, text in zip(*fetched, strict=True) if fetched else ():
            key = (raw or b"").decode("utf-8", "surrogateescape")
            fault = "its text is gone" if text is None else find_fault(text, queue_name, key)
            if fault is None and text is not None:
                readable[key] = keep_known_options(text)
            else:
                self._reject(queue_name, raw, text, fault or "")
        return readable

    def wait(self, queue_name: str, seconds: float) -> bool | None:
        """Return True once the queue has a message, False after so many seconds, or None if Redis refuses to wait.

        It returns False earlier if the worker shuts down. Moving the first message of the list to where it is changes
        nothing, and so nothing is lost with the answer. Fails as a fetch does if Redis is away.
        """
        client: Any = self.client
        key = f"{self.namespace}:{queue_name}"
        try:
            moved = self.waits.ask(client, "BLMOVE", key, key, "LEFT", "LEFT", seconds=seconds)
        except ResponseError:
            return None
        except (RedisConnectionError, RedisTimeoutError) as error:
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]
        return moved is not None

    def reclaim(self, queue_name: str) -> None:
        """Put back what this process has taken and does not have. Call it only while nothing is being fetched.

        A message that is acknowledged meanwhile is gone from the set, and stays gone.
        """
        client: Any = self.client
        try:
            taken = {id_.decode(errors="replace") for id_ in client.smembers(self._taken_key(queue_name))}
            lost = find_lost(taken, self.in_hand[queue_name])
            if lost:
                self._dispatch("requeue")(queue_name, *lost)  # type: ignore[no-untyped-call]
                structlog.get_logger("queue").warning("messages.reclaimed", queue=queue_name, count=len(lost))
        except RedisError:
            return

    def _reject(self, queue_name: str, key: bytes | None, text: bytes | None, fault: str) -> None:
        """Make a dead letter of it that says why, if it can be told to a message."""
        client: Any = self.client
        if text is not None and (explained := explain_refusal(text, fault)) is not None:
            client.hset(f"{self.namespace}:{queue_name}.msgs", key, explained)
        self._dispatch("nack")(queue_name, key)  # type: ignore[no-untyped-call]
        structlog.get_logger("queue").error("message.unreadable", queue=queue_name, fault=fault)

    def _taken_key(self, queue_name: str) -> str:
        return f"{self.namespace}:__acks__.{self.broker_id}.{queue_name}"


@dataclass(slots=True)
class TrackingConsumer(Consumer):
    """A consumer that records what it passes on, reports its rounds, and otherwise does what `consumer` does.

    Dramatiq's asks an empty queue ever less often, up to `timeout` seconds: so long a message waits for it. This one
    waits at the server until a message is there, or until it is time to fetch or to look for lost messages. While it
    has messages in hand it waits up to `timeout`: Dramatiq looks after each round whether a delayed one is due.
    """

    broker: Broker
    queue_name: str
    consumer: Any
    in_hand: InHand
    timeout: float
    reclaim_at: float
    fetch_at: float = 0.0
    is_idle: bool = False

    def __next__(self) -> MessageProxy | None:
        if monotonic() >= self.reclaim_at:
            self.broker.reclaim(self.queue_name)
            self.reclaim_at = monotonic() + self.broker.reclaim_every
        message = None
        if not self.is_idle or self._is_to_fetch():
            message = self._fetch()
        self.broker.on_round(self.queue_name)
        return message

    def _is_to_fetch(self) -> bool:
        """Wait for a message; return whether to fetch. If Redis can't wait, `consumer` does."""
        until = min(self.fetch_at, self.reclaim_at) - monotonic()
        there = self.broker.wait(self.queue_name, min(until, self.timeout) if self.in_hand.passed_on else until)
        if there is None:
            return True
        self.consumer.misses = 0
        return there or monotonic() >= self.fetch_at

    def _fetch(self) -> MessageProxy | None:
        try:
            message: MessageProxy | None = next(self.consumer)
        except RedisTimeoutError as error:
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]
        if message is None:
            # With its hands full it may not fetch: then what is in the queue is no reason to wake up.
            self.is_idle = self.consumer.outstanding_message_count < self.consumer.prefetch
            self.fetch_at = monotonic() + self.broker.heartbeat_timeout / 1000 / fetches_a_heartbeat
            return None
        self.is_idle = False
        id_ = message.options["redis_message_id"]
        self.in_hand.passed_on.add(id_)
        self.in_hand.fetched.discard(id_)
        return message

    def ack(self, message: MessageProxy) -> None:
        self.consumer.ack(message)
        self._forget([message])

    def nack(self, message: MessageProxy) -> None:
        self.consumer.nack(message)
        self._forget([message])

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        handed_back = list(messages)
        self.consumer.requeue(handed_back)
        self._forget(handed_back)

    def close(self) -> None:
        self.consumer.close()

    def _forget(self, messages: Iterable[MessageProxy]) -> None:
        for message in messages:
            self.in_hand.passed_on.discard(message.options["redis_message_id"])
