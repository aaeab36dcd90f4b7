"""Whether a worker process can still work: its consumers come round, and not all of its threads are stuck."""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import dramatiq
from dramatiq import Consumer, MessageProxy, Worker
from dramatiq.middleware import Middleware

from worker.queue.broker import ReclaimingBroker

beat_seconds = 5.0
silent_seconds = 45.0
"""A consumer comes round every second or so; while Redis is away or silent, after some fifteen."""
stuck_seconds = 300.0
"""No message takes so long: requests, leases and slices have limits far below."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What was seen of one process, in seconds of one clock.

    When each consumer last came round, when each message began that is being worked on, and how many threads live.
    """

    rounds: Mapping[str, float]
    started: Collection[float]
    threads: int


def can_work(signs: Signs, now: float) -> bool:
    """True while every consumer asks for messages and some thread is free for one, or will be.

    That Redis or the database are away is no reason to say no: nothing would come of starting the process anew.
    """
    if any(now - at > silent_seconds for at in signs.rounds.values()):
        return False
    return len(signs.started) < signs.threads or any(now - at <= stuck_seconds for at in signs.started)


@dataclass(slots=True, eq=False)
class Pulse(Middleware):
    """Beats from a thread of its own for as long as the process can work; one that hangs does not get to it."""

    beat: Callable[[], None]
    clock: Callable[[], float] = monotonic
    every: float = beat_seconds
    _rounds: dict[str, float] = field(default_factory=dict)
    _started: dict[int, float] = field(default_factory=dict)

    def came_round(self, queue_name: str) -> None:
        self._rounds[queue_name] = self.clock()

    def after_worker_boot(self, broker: dramatiq.Broker, worker: Worker) -> None:
        threading.Thread(target=self._watch, args=(worker,), name="pulse", daemon=True).start()

    def before_process_message(self, broker: dramatiq.Broker, message: MessageProxy) -> None:
        self._started[threading.get_ident()] = self.clock()

    def after_process_message(self, broker: dramatiq.Broker, message: MessageProxy, **outcome: Any) -> None:
        self._started.pop(threading.get_ident(), None)

    after_skip_message = after_process_message

    def _watch(self, worker: Worker) -> None:
        booted, pause = self.clock(), threading.Event()
        while True:
            if can_work(self._signs(worker, booted), self.clock()):
                self.beat()
            pause.wait(self.every)

    def _signs(self, worker: Worker, booted: float) -> Signs:
        """A consumer that never came round counts from the boot."""
        rounds = {name: self._rounds.get(name, booted) for name in list(worker.consumers)}
        threads = sum(thread.is_alive() for thread in worker.workers)
        return Signs(rounds, list(self._started.values()), threads)


@dataclass(slots=True)
class WatchedConsumer(Consumer):
    """A consumer that says so whenever it has asked for a message, and otherwise does what the other one does."""

    consumer: Any
    came_round: Callable[[], None]

    def __next__(self) -> MessageProxy | None:
        message: MessageProxy | None = next(self.consumer)
        self.came_round()
        return message

    def ack(self, message: MessageProxy) -> None:
        self.consumer.ack(message)

    def nack(self, message: MessageProxy) -> None:
        self.consumer.nack(message)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        self.consumer.requeue(messages)

    def close(self) -> None:
        self.consumer.close()


class WatchedBroker(ReclaimingBroker):
    """A reclaiming broker whose consumers are watched; `came_round` hears the name of the queue."""

    def __init__(self, came_round: Callable[[str], None], **parameters: Any) -> None:
        super().__init__(**parameters)
        self.came_round = came_round

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        """Also called when a consumer starts again after an error: that is a round as well."""
        self.came_round(queue_name)
        consumer = super().consume(queue_name, prefetch, timeout)
        return WatchedConsumer(consumer, lambda: self.came_round(queue_name))
