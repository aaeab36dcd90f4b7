"""Publish what this process commits at once, on a thread of its own: no message goes through the queue for it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog
from dramatiq.middleware import Middleware

from models.errors import Transient
from models.messaging import messages

gather_seconds, longest_gather = 0.025, 0.1
"""How long a batch waits after the one before it, for others to be published with it: the first one not at all, the
next one briefly, and each after that twice as long, so that a long sync's events take few transactions."""
first_pause, longest_pause = 0.01, 0.5
"""Seconds until the outbox is looked at again if another process publishes: what it read may not have what is new."""
stop_seconds = 3.0
"""How long a stopping process publishes; what is left then is the sweep's."""


@dataclass(slots=True, eq=False)
class Publisher(Middleware):
    """Publish events while a worker runs in this process; without one, or after it, have another worker do so.

    publish: publishes what is in the outbox, and calls what it is given between two batches; returns False if another
        publisher may leave some of it.
    send: sends a message through the queue.
    """

    publish: Callable[[Callable[[], None]], bool]
    send_message: Callable[[messages.Message], None]
    _thread: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _woken: threading.Event = field(default_factory=threading.Event)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _gather_seconds: float = gather_seconds

    def send(self, message: messages.Message) -> None:
        """Send the message. One to publish events wakes the thread instead, after the commit that it is sent for."""
        if message == messages.publish_events() and self._wake():
            return
        self.send_message(message)

    def after_worker_boot(self, broker: Any, worker: Any) -> None:
        self.start()

    def after_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """Stop last: the worker has ended its messages by now, or has given them up."""
        self.stop()

    def start(self) -> None:
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Publish what was committed before, and return, after a few seconds in any case."""
        with self._lock:
            self._stopping.set()
            self._woken.set()
        if self._thread is not None:
            self._thread.join(stop_seconds)

    def _wake(self) -> bool:
        """Race: the thread stops between the question whether it runs and the signal. So both are one step."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive() or self._stopping.is_set():
                return False
            self._woken.set()
            return True

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._woken.wait()
            self._woken.clear()
            self._empty()
        # Race: something was committed just before `stop`, and only its signal came too late for the round above.
        self._empty()

    def _gather(self) -> None:
        """Wait for others to commit. The next batch has what they signal until then, so no round of its own is due."""
        # Race: `stop` signals right before it is cleared. The loop asks for `_stopping` before it waits again.
        if not self._stopping.wait(self._gather_seconds):
            self._woken.clear()
        self._gather_seconds = min(self._gather_seconds * 2, longest_gather)

    def _empty(self) -> None:
        """Publish until the outbox is empty. What can't be published now, the sweep has published later."""
        pause, log = first_pause, structlog.get_logger("queue")
        self._gather_seconds = gather_seconds
        try:
            while not self.publish(self._gather):
                if self._stopping.wait(pause):
                    self.publish(self._gather)
                    return
                pause = min(pause * 2, longest_pause)
        except Transient as error:
            log.warning("message.left_to_sweep", actor="publish_events", error=str(error))
        except Exception:  # whatever it is, the next events must still be published
            log.exception("publisher.broken")
