"""Whether a worker process can still work: its consumers ask for messages, and not all of its threads are stuck."""

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import dramatiq
from dramatiq import MessageProxy, Worker
from dramatiq.middleware import Middleware

beat_seconds = 5.0
silent_seconds = 45.0
"""A consumer asks for messages every few seconds, and about every 15 seconds while Redis does not answer."""
stuck_seconds = 300.0
"""No message takes that long: requests, leases and slices have limits far below."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What was observed of one process, in seconds of one clock.

    `rounds` has when each consumer last asked for messages, `started` when each message in work was begun, `threads`
    how many threads are alive.
    """

    rounds: Mapping[str, float]
    started: Collection[float]
    threads: int


def can_work(signs: Signs, now: float) -> bool:
    """Return whether every consumer asks for messages and some thread is free for one, or will be.

    It stays true while Redis or the database is away: restarting the process would not help.
    """
    if any(now - at > silent_seconds for at in signs.rounds.values()):
        return False
    return len(signs.started) < signs.threads or any(now - at <= stuck_seconds for at in signs.started)


@dataclass(slots=True, eq=False)
class Pulse(Middleware):
    """Call `beat` from a thread of its own for as long as the process can work; a process that hangs does not."""

    beat: Callable[[], None]
    clock: Callable[[], float] = monotonic
    every: float = beat_seconds
    _rounds: dict[str, float] = field(default_factory=dict)
    _started: dict[int, float] = field(default_factory=dict)

    def note_round(self, queue_name: str) -> None:
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
        """Take the boot as the first round of a consumer that has had none."""
        rounds = {name: self._rounds.get(name, booted) for name in list(worker.consumers)}
        threads = sum(thread.is_alive() for thread in worker.workers)
        return Signs(rounds, list(self._started.values()), threads)
