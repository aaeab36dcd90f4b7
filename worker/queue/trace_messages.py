"""Trace messages as Dramatiq hands them to actors: each one continues the trace of whoever sent it."""

import threading
from typing import Any

import dramatiq
from dramatiq.middleware import Middleware

from models.messaging.trace_context import option
from worker.metrics.messages import judge_result, name_actor
from worker.tracing.spans import SpanName, Traces, find_ids


class TraceMessages(Middleware):
    """Trace what becomes of each message. Put it before `Retries`, which then has judged a failure when this ends."""

    def __init__(self, traces: Traces) -> None:
        self.traces = traces
        self._own = threading.local()

    def before_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        facts = {"actor": name_actor(message), **find_ids({**message.kwargs, "message_id": message.message_id})}
        self._own.span = self.traces.begin(SpanName.message, facts, message.options.get(option))

    def after_process_message(
        self,
        broker: dramatiq.Broker,
        message: dramatiq.MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        outcome = judge_result(message, exception)
        self._end(outcome, failed=outcome == "failed")

    def after_skip_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        self._end("skipped")

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        self.traces.close()

    def _end(self, outcome: str, *, failed: bool = False) -> None:
        """End the span; there is none if something before this one refused the message."""
        span = getattr(self._own, "span", None)
        self._own.span = None
        if span is not None:
            span.end({"outcome": outcome}, failed=failed)
