"""Start tracing if OpenTelemetry's own variables ask for it. Without them nothing of it is imported."""

import os
from collections.abc import Mapping
from typing import Final

import structlog

from worker.tracing.spans import Traces

endpoints: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
protocols: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def find_exporter(environ: Mapping[str, str]) -> str | None:
    """Return the name of the exporter that the variables ask for, as packages declare it; None for no tracing.

    An empty variable is one that is not set. Of several exporters only the first is used.
    """
    given = {name: value.strip() for name, value in environ.items() if name.startswith("OTEL_") and value.strip()}
    if given.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    named = given.get("OTEL_TRACES_EXPORTER", "").partition(",")[0].strip()
    if named.lower() == "none" or not (named or any(name in given for name in endpoints)):
        return None
    if named not in ("", "otlp"):
        return named
    protocol = next((given[name] for name in protocols if name in given), "http/protobuf")
    return "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"


def start_tracing(role: str, version: str) -> Traces:
    """Return what this process traces with; it works on without traces if they can't be made, and logs why."""
    exporter = find_exporter(os.environ)
    if exporter is None:
        return Traces()
    try:
        from worker.tracing.sdk import open_traces  # noqa: PLC0415 - imported by processes that trace alone

        return open_traces(exporter, role, version)
    except ImportError:
        reason = "OpenTelemetry is not installed. Install breezesync[otel]"
    except LookupError:
        reason = f"no installed package has the exporter {exporter}. Install the one that has"
    except Exception as error:  # the SDK reads its variables here, and not every one of them is checked
        reason = f"OpenTelemetry can't start ({type(error).__name__}). Correct the variables that begin with OTEL_"
    text = f"{reason}, or unset {_name_cause(os.environ)}. This process works on without traces."
    structlog.get_logger("tracing").error("tracing.unavailable", error=text)
    return Traces()


def _name_cause(environ: Mapping[str, str]) -> str:
    """Return the variable that asks for traces."""
    return next(name for name in ("OTEL_TRACES_EXPORTER", *endpoints) if environ.get(name, "").strip())
