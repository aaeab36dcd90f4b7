"""Traces by OpenTelemetry's SDK. Only this module imports it, and only a process that traces imports this one."""

import logging
import threading
from collections.abc import Callable, Mapping
from contextvars import Token
from dataclasses import dataclass
from functools import wraps
from importlib.metadata import entry_points
from time import time_ns
from typing import Concatenate, Final, ParamSpec, TypeVar

import structlog
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from models.messaging.trace_context import is_traceparent, option
from worker.tracing.spans import Facts, Span, SpanName, Traces, name_attribute

close_seconds: Final = 1.5
"""How long an ending process sends what it has: a worker whose messages took all of their time has no more."""
kinds: Final[Mapping[SpanName, SpanKind]] = {
    SpanName.web: SpanKind.SERVER,
    SpanName.gateway: SpanKind.SERVER,
    SpanName.message: SpanKind.CONSUMER,
    SpanName.token_request: SpanKind.CLIENT,
    SpanName.api_request: SpanKind.CLIENT,
}

P = ParamSpec("P")
Result = TypeVar("Result")


def harmless(
    trace_it: "Callable[Concatenate[SdkTraces, P], Result]",
) -> "Callable[Concatenate[SdkTraces, P], Result | None]":
    """Let nothing that goes wrong while tracing reach the flow: it may hold tokens that are not saved yet."""

    @wraps(trace_it)
    def traced(self: "SdkTraces", /, *given: P.args, **named: P.kwargs) -> Result | None:
        try:
            return trace_it(self, *given, **named)
        except Exception as error:
            if not self.is_broken:
                self.is_broken = True
                structlog.get_logger("tracing").warning("tracing.broken", error=type(error).__name__)
            return None

    return traced


@dataclass(frozen=True, slots=True)
class SdkSpan(Span):
    """A span of the SDK, and what was current before it."""

    traces: "SdkTraces"
    span: trace.Span
    before: Token[Context]

    def end(self, facts: Facts, *, failed: bool = False) -> None:
        self.traces.end(self, facts, failed)


class SdkTraces(Traces):
    """Traces that `provider` samples, keeps and exports. An exception's text is never a part of them."""

    is_on = True

    def __init__(self, provider: TracerProvider) -> None:
        self.is_broken = False
        self._provider = provider
        self._tracer = provider.get_tracer("breezesync")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, name: SpanName, facts: Facts, parent: str | None = None) -> Span:
        return self._begin(name, facts, parent) or Span()

    @harmless
    def _begin(self, name: SpanName, facts: Facts, parent: str | None) -> Span:
        """Begin it in the trace of `parent` or in one of its own, whatever was current before, and bind its id to the
        log."""
        continued = {option: parent} if is_traceparent(parent) and parent is not None else {}
        around = self._propagator.extract(continued, Context())
        span = self._tracer.start_span(name.value, around, kinds[name], _name_attributes(facts))
        structlog.contextvars.bind_contextvars(trace_id=trace.format_trace_id(span.get_span_context().trace_id))
        return SdkSpan(self, span, context.attach(trace.set_span_in_context(span, around)))

    @harmless
    def end(self, own: SdkSpan, facts: Facts, failed: bool) -> None:
        """End a span of `begin`."""
        context.detach(own.before)
        structlog.contextvars.unbind_contextvars("trace_id")
        own.span.set_attributes(_name_attributes(facts))
        if failed:
            own.span.set_status(StatusCode.ERROR)
        own.span.end()

    @harmless
    def note(self, name: SpanName, facts: Facts, seconds: float) -> None:
        now = time_ns()
        began = now - round(seconds * 1e9)
        self._tracer.start_span(name.value, kind=kinds[name], attributes=_name_attributes(facts), start_time=began).end(
            now
        )

    @harmless
    def traceparent(self) -> str | None:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier.get(option)

    @harmless
    def exemplar(self) -> Mapping[str, str] | None:
        current = trace.get_current_span().get_span_context()
        if not (current.is_valid and current.trace_flags.sampled):
            return None
        return {"trace_id": trace.format_trace_id(current.trace_id)}

    def close(self) -> None:
        """Hand over to a thread of its own: a collector that does not answer must not keep a process from ending."""
        closing = threading.Thread(target=self._provider.shutdown, name="tracing", daemon=True)
        closing.start()
        closing.join(close_seconds)


def _name_attributes(facts: Facts) -> dict[str, str | int]:
    return {name_attribute(fact): value for fact, value in facts.items()}


def open_traces(exporter: str, role: str, version: str) -> SdkTraces:
    """Return traces that the SDK samples, batches and exports as its variables say.

    Raises LookupError if no installed package has the exporter, and whatever the SDK raises.
    """
    [found, *_] = entry_points(group="opentelemetry_traces_exporter", name=exporter) or [None]
    if found is None:
        raise LookupError(exporter)
    # Each attempt to send is a warning of the exporter's; that all of them failed is an error.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)
    own = {"service.name": f"breezesync-{role}", "service.version": version}
    resource = Resource.create({**own, **OTELResourceDetector().detect().attributes})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(found.load()()))
    return SdkTraces(provider)
