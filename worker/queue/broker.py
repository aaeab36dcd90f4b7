"""Messages that left their queue and reached nobody: found by the worker they were meant for, and put back.

A worker takes messages out of a queue and into a set of its own, in one step at the server. Where the answer to that
step is lost, the messages stand in the set, the worker does not know of them, and Dramatiq gives them to somebody else
only after the worker's end. Delayed messages share that fate when their consumer loses its connection.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import structlog
from dramatiq import Consumer, MessageProxy
from redis.exceptions import RedisError

from worker.queue.screening import ScreenedBroker

every_seconds = 10.0


@dataclass(slots=True)
class Holding:
    """What a process has in hand of one queue, by the ids that the queue knows: fetched by its consumer, or handed on
    to its threads or, where it is the queue of delayed messages, to their time."""

    fetched: set[str] = field(default_factory=set)
    handed: set[str] = field(default_factory=set)


class ReclaimingBroker(ScreenedBroker):
    """A screened broker that looks every so many seconds for what its process should have in hand and has not."""

    def __init__(self, *, every: float = every_seconds, **parameters: Any) -> None:
        super().__init__(**parameters)  # type: ignore[no-untyped-call]
        self.every = every
        self.holdings: defaultdict[str, Holding] = defaultdict(Holding)

    def do_fetch(self, queue_name: str, count: int) -> Sequence[bytes]:
        """As the screened broker; what comes is in hand from now on."""
        texts = super().do_fetch(queue_name, count)
        self.holdings[queue_name].fetched |= {json.loads(text)["options"]["redis_message_id"] for text in texts}
        return texts

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        """A new consumer has fetched nothing yet, and one of delayed messages has forgotten those that it held."""
        holding = self.holdings[queue_name]
        holding.fetched.clear()
        if queue_name.endswith(".DQ"):
            holding.handed.clear()
        consumer = super().consume(queue_name, prefetch, timeout)
        return ReclaimingConsumer(self, queue_name, consumer, holding, monotonic() + self.every)

    def reclaim(self, queue_name: str) -> None:
        """Puts back what stands as this process's and is not in hand. Only where nothing is being fetched just now.

        A message that is acknowledged meanwhile is gone from the set, and stays gone.
        """
        client: Any = self.client
        try:
            key = f"{self.namespace}:__acks__.{self.broker_id}.{queue_name}"
            holding = self.holdings[queue_name]
            orphans = {id_.decode() for id_ in client.smembers(key)} - holding.fetched - holding.handed
            if orphans:
                self._dispatch("requeue")(queue_name, *orphans)  # type: ignore[no-untyped-call]
                structlog.get_logger("queue").warning("messages.reclaimed", queue=queue_name, count=len(orphans))
        except RedisError:
            return


@dataclass(slots=True)
class ReclaimingConsumer(Consumer):
    """A consumer that keeps account of what it has handed on, and otherwise does what the other one does."""

    broker: ReclaimingBroker
    queue_name: str
    consumer: Any
    holding: Holding
    look_at: float

    def __next__(self) -> MessageProxy | None:
        if monotonic() >= self.look_at:
            self.broker.reclaim(self.queue_name)
            self.look_at = monotonic() + self.broker.every
        message: MessageProxy | None = next(self.consumer)
        if message is not None:
            id_ = message.options["redis_message_id"]
            self.holding.handed.add(id_)
            self.holding.fetched.discard(id_)
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
            self.holding.handed.discard(message.options["redis_message_id"])
