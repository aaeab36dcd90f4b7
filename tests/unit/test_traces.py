"""When a process traces, what a message may say of its trace, and what spans may say of anything."""

import json
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from structlog.testing import capture_logs

from models.messaging.messages import keep_known_options
from models.messaging.trace_context import is_traceparent
from worker.metrics.counters import Metrics
from worker.tracing.requests import find_step
from worker.tracing.sdk import SdkTraces
from worker.tracing.spans import Facts, SpanName, Traces, find_ids
from worker.tracing.start import find_exporter, start_tracing

good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

variables: dict[str, tuple[Mapping[str, str], str | None]] = {
    "none": ({}, None),
    "an endpoint": ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, "otlp_proto_http"),
    "an endpoint of traces": ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, "otlp_proto_http"),
    "an empty endpoint": ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, None),
    "an exporter": ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
    "two of them": ({"OTEL_TRACES_EXPORTER": "otlp, console"}, "otlp_proto_http"),
    "no exporter": ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, None),
    "an empty exporter": ({"OTEL_TRACES_EXPORTER": "", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, "otlp_proto_http"),
    "gRPC": ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "otlp_proto_grpc"),
    "switched off": ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "TRUE"}, None),
    "another signal's": ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4318", "OTEL_SERVICE_NAME": "x"}, None),
}


@pytest.mark.parametrize("case", variables)
def test_opentelemetrys_own_variables_ask_for_traces(case: str) -> None:
    given, expected = variables[case]
    assert find_exporter(given) == expected


texts: dict[str, tuple[object, bool]] = {
    "a trace": (good, True),
    "a later version": (good.replace("00-", "01-", 1), True),
    "the version that is none": (good.replace("00-", "ff-", 1), False),
    "no trace's id": (f"00-{'0' * 32}-b7ad6b7169203331-01", False),
    "no span's id": (f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01", False),
    "capital letters": (good.upper(), False),
    "more behind it": (good + "-x", False),
    "a line end behind it": (good + "\n", False),
    "a megabyte": ("0" * (1 << 20), False),
    "nothing": ("", False),
    "a number": (7, False),
    "a list": ([good], False),
}


@pytest.mark.parametrize("case", texts)
def test_a_trace_that_can_be_read_stays_with_its_message_and_any_other_is_ignored(case: str) -> None:
    value, expected = texts[case]
    assert is_traceparent(value) is expected
    options = {"redis_message_id": "m", "retries": 1}
    text = json.dumps({"options": {**options, "traceparent": value, "tracestate": "x=y"}}).encode()
    kept = json.loads(keep_known_options(text))["options"]
    assert kept == {**options, **({"traceparent": value} if expected else {})}


paths: dict[str, Facts | None] = {
    "/auth/breezedoc": {"operation": "begin", "provider": "breezedoc"},
    "/auth/breezedoc/start": {"operation": "start", "provider": "breezedoc"},
    "/auth/breezedoc/callback": {"operation": "callback", "provider": "breezedoc"},
    "/below/a/prefix/auth/breezedoc/callback": {"operation": "callback", "provider": "breezedoc"},
    "/auth/breezedoc/done/0123": None,
    "/auth/other/callback": None,
    "/auth/breezedoc/callback/": None,
    "/auth/breezedoc/callback\n": None,
    "/wp-login.php": None,
}


@pytest.mark.parametrize("path", paths)
def test_a_step_of_an_authorization_is_traced_and_nothing_else(path: str) -> None:
    assert find_step(path, {"breezedoc"}) == paths[path]


def test_only_what_can_be_an_id_of_ours_passes_for_one() -> None:
    given = {"connection_id": "0123abcd", "authorization_id": "boris@example.org", "revocation_id": 7, "user_id": "ada"}
    assert find_ids(given) == {"connection_id": "0123abcd"}


def test_a_process_without_the_extra_works_on_and_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    monkeypatch.delitem(sys.modules, "worker.tracing.sdk")
    for name in [each for each in sys.modules if each.partition(".")[0] == "opentelemetry"]:
        monkeypatch.setitem(sys.modules, name, None)
    with capture_logs() as log:
        traces = start_tracing("worker", "1")
    assert not traces.is_on
    [line] = log
    assert (line["event"], line["log_level"]) == ("tracing.unavailable", "error")
    assert "breezesync[otel]" in line["error"]
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in line["error"]


@pytest.mark.parametrize("given", [{"OTEL_TRACES_EXPORTER": "zipkin"}, {"OTEL_BSP_MAX_QUEUE_SIZE": "-1"}])
def test_variables_that_the_sdk_cannot_use_leave_a_process_working(
    given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"OTEL_TRACES_EXPORTER": "console", **given}.items():
        monkeypatch.setenv(name, value)
    with capture_logs() as log:
        assert not start_tracing("worker", "1").is_on
    assert [line["event"] for line in log] == ["tracing.unavailable"]


def open_in_memory(**options: Any) -> tuple[SdkTraces, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False, **options)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return SdkTraces(provider), exporter


def test_a_log_line_and_a_measurement_lead_to_the_trace_they_were_made_in() -> None:
    traces, _ = open_in_memory()
    metrics = Metrics(CollectorRegistry(), exemplar=traces.exemplar)
    span = traces.begin(SpanName.message, {}, good)
    metrics.note_message("sync_connection", "done", 0.2)
    bound = structlog.contextvars.get_contextvars()
    span.end({})
    metrics.note_message("exchange_code", "done", 0.2)
    assert bound["trace_id"] == good.split("-")[1]
    assert "trace_id" not in structlog.contextvars.get_contextvars()
    shown = generate_latest(metrics.registry).decode()  # type: ignore[no-untyped-call]
    found = [line for line in shown.splitlines() if " # {" in line]
    assert len(found) == 1, "outside of a span there is none"
    assert f'{{trace_id="{bound["trace_id"]}"}}' in found[0]


def test_a_trace_that_is_not_sampled_has_no_exemplar_and_its_messages_are_not_sampled_either() -> None:
    traces, exporter = open_in_memory(sampler=ALWAYS_OFF)
    span = traces.begin(SpanName.web, {})
    carried = traces.traceparent()
    assert traces.exemplar() is None
    span.end({})
    assert carried is not None
    assert int(carried.rpartition("-")[2], 16) % 2 == 0, "the flag says whether it is sampled"
    assert exporter.get_finished_spans() == ()


class Broken(TracerProvider):
    """A provider whose tracer fails."""

    def get_tracer(self, *given: Any, **named: Any) -> Any:
        return None


def test_tracing_that_breaks_reaches_no_flow_and_is_logged_once() -> None:
    traces = SdkTraces(Broken(shutdown_on_exit=False))
    with capture_logs() as log:
        traces.note(SpanName.token_request, {"grant": "refresh_token"}, 0.1)
        traces.begin(SpanName.message, {}).end({})
    assert [line["event"] for line in log] == ["tracing.broken"]


def test_a_process_that_ends_sends_what_it_has() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=3_600_000))
    traces = SdkTraces(provider)
    traces.begin(SpanName.message, {}).end({})
    traces.close()
    assert [span.name for span in exporter.get_finished_spans()] == ["message"]


def test_a_process_that_does_not_trace_has_nothing_to_say_of_a_trace() -> None:
    traces = Traces()
    span = traces.begin(SpanName.web, {})
    assert (traces.traceparent(), traces.exemplar(), traces.is_on) == (None, None, False)
    span.end({})
