"""The operator's application: health, readiness, metrics and the page, on a listener that is not public."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from worker.web.headers import SecureHeaders, plain_headers


def build_operator_app(
    parts: Mapping[str, Callable[[], object]],
    gauges: CollectorRegistry | None = None,
    more: Sequence[BaseRoute] = (),
) -> SecureHeaders:
    """Return the operator's application.

    `/readyz` calls each of `parts` in order; a part raises if it does not work. `/metrics` shows `gauges` beside what
    this process counts. `more` are the routes of the operator's page, if there is one.
    """
    answers = OperatorAnswers(parts, gauges)
    routes = [
        Route("/healthz", answers.live),
        Route("/readyz", answers.ready),
        Route("/metrics", answers.measure),
        *more,
    ]
    return SecureHeaders(Starlette(routes=routes), plain_headers)


@dataclass(frozen=True, slots=True)
class OperatorAnswers:
    """One method for each route."""

    parts: Mapping[str, Callable[[], object]]
    gauges: CollectorRegistry | None

    def live(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    def ready(self, request: Request) -> Response:
        for name, check in self.parts.items():
            try:
                check()
            except Exception as error:
                structlog.get_logger("web").warning("readiness.failed", part=name, error=type(error).__name__)
                return PlainTextResponse(f"not ready: {name}\n", status_code=503)
        return PlainTextResponse("ready\n")

    def measure(self, request: Request) -> Response:
        read_now = b"" if self.gauges is None else generate_latest(self.gauges)
        return Response(generate_latest() + read_now, media_type=CONTENT_TYPE_LATEST)
