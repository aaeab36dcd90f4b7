"""Count messages as Dramatiq hands them to actors and gets them back."""

import threading
from time import monotonic
from typing import Any

import dramatiq
from dramatiq.middleware import Middleware

from models.messaging.messages import QUEUES
from worker.metrics.counters import Metrics


class CountMessages(Middleware):
    """Count what becomes of each message. Put it before `Retries`, which then has judged a failure when this counts."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._own = threading.local()

    def before_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        self._own.started = monotonic()

    def after_process_message(
        self,
        broker: dramatiq.Broker,
        message: dramatiq.MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        started = getattr(self._own, "started", None)
        seconds = None if started is None else monotonic() - started
        self.metrics.note_message(name_actor(message), judge_result(message, exception), seconds)

    def after_skip_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        self.metrics.note_message(name_actor(message), "skipped")


def name_actor(message: dramatiq.MessageProxy) -> str:
    """Return the actor's name, if it is one of ours: anyone can write a message."""
    return message.actor_name if message.actor_name in QUEUES else "other"


def judge_result(message: dramatiq.MessageProxy, exception: BaseException | None) -> str:
    """Return what became of a message that an actor worked on and `Retries` has seen."""
    return "done" if exception is None else "failed" if message.failed else "retried"
