"""HTTP: the routes, and each response's headers, cookie, and page or JSON."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from jinja2 import Environment, FileSystemLoader, select_autoescape
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from models.errors import SyncError, Transient
from models.oauth.authorization import Authorization, awaits_application, describe_result, flow_of, open_steps
from worker.web.callback import Callback
from worker.web.cookies import Cookies
from worker.web.form import read_form
from worker.web.locations import add_to_query, allow_form, find_way_on
from worker.web.refusal import Refused

retry_after = timedelta(seconds=30)
security_headers = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def build_app(
    callback: Callback, parts: Mapping[str, Callable[[], object]], gauges: CollectorRegistry | None = None
) -> Starlette:
    """Return the web application.

    `/readyz` calls each of `parts` in order; a part raises if it does not work. `/metrics` shows `gauges` beside what
    this process counts.
    """
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "pages"), autoescape=select_autoescape(default=True)
    )
    answers = Answers(callback, parts, gauges, pages)
    refuse = answers.refuse
    app = Starlette(
        routes=[
            _only_get("/auth/{provider}", answers.begin),
            Route("/auth/{provider}/start", answers.start, methods=["POST"]),
            _only_get("/auth/{provider}/callback", answers.finish),
            Route("/auth/{provider}/done/{authorization_id}", answers.done),
            Route("/healthz", answers.live),
            Route("/readyz", answers.ready),
            Route("/metrics", answers.measure),
        ],
        exception_handlers={Refused: refuse, SyncError: refuse, HTTPException: refuse, Exception: refuse},
    )
    app.router.redirect_slashes = False
    return app


@dataclass(frozen=True, slots=True)
class Answers:
    """One method for each route, and one for every refusal."""

    callback: Callback
    parts: Mapping[str, Callable[[], object]]
    gauges: CollectorRegistry | None
    pages: Environment

    def begin(self, request: Request) -> Response:
        name = request.path_params["provider"]
        cookies = self._cookies(name)
        begun = self.callback.begin(name, _read_query(request).get("token", ""), cookies.read(request))
        if begun.question is None:
            answer: Response = RedirectResponse(begun.location, status_code=302, headers=security_headers)
        else:
            asked = begun.question
            headers = allow_form(security_headers, begun.location, str(request.url), asked.return_to)
            answer = self._show("confirm.html", 200, headers, asked=asked, action=f"{name}/start")
        cookies.bind(answer, begun.flow, begun.binding)
        return answer

    def start(self, request: Request) -> Response:
        name = request.path_params["provider"]
        clicked = self.callback.click(name, read_form(request), self._cookies(name).read(request))
        if clicked.location is not None:
            return RedirectResponse(clicked.location, status_code=303, headers=security_headers)
        page = self._show("not_me.html", 200, security_headers)
        return self._release(request, page, clicked.authorization)

    def finish(self, request: Request) -> Response:
        name = request.path_params["provider"]
        bindings = self._cookies(name).read(request)
        found = self.callback.finish(name, _read_query(request), bindings)
        answer = RedirectResponse(find_way_on(found, bindings), status_code=303, headers=security_headers)
        return self._release(request, answer, found)

    def done(self, request: Request) -> Response:
        found = self.callback.outcome(request.path_params["provider"], request.path_params["authorization_id"])
        return self._release(request, self._show_result(request, found), found)

    def refuse(self, request: Request, error: Exception) -> Response:
        refused = error if isinstance(error, Refused) else _refusal_of(error)
        headers = {**security_headers, **_headers_of(error)}
        if _wants_json(request):
            body = {"error": refused.title, "advice": refused.advice}
            return JSONResponse(body, status_code=refused.status, headers=headers)
        back = refused.return_to and add_to_query(refused.return_to, {"status": "failed", "reason": "expired"})
        return self._show(
            "refused.html", refused.status, headers, title=refused.title, advice=refused.advice, back=back
        )

    def ready(self, request: Request) -> Response:
        for name, check in self.parts.items():
            try:
                check()
            except Exception as error:
                structlog.get_logger("web").warning("readiness.failed", part=name, error=type(error).__name__)
                return PlainTextResponse(f"not ready: {name}\n", status_code=503, headers=security_headers)
        return PlainTextResponse("ready\n", headers=security_headers)

    def live(self, request: Request) -> Response:
        return PlainTextResponse("ok\n", headers=security_headers)

    def measure(self, request: Request) -> Response:
        read_now = b"" if self.gauges is None else generate_latest(self.gauges)
        return Response(generate_latest() + read_now, media_type=CONTENT_TYPE_LATEST)

    def _show_result(self, request: Request, found: Authorization) -> Response:
        answer = describe_result(found)
        if _wants_json(request):
            return JSONResponse(answer, headers=security_headers)
        if found.return_to is not None and answer["status"] != "pending":
            back = {"status": answer["status"], "connection_id": found.connection_id, "reason": found.reason}
            location = add_to_query(found.return_to, {name: value for name, value in back.items() if value})
            return RedirectResponse(location, status_code=303, headers=security_headers)
        provider = self.callback.providers[found.provider].shown_name
        shown = {"provider": provider, "reason": found.reason, "is_kept": awaits_application(found)}
        return self._show(f"{answer['status']}.html", 200, security_headers, **shown)

    def _release(self, request: Request, answer: Response, found: Authorization) -> Response:
        """Let go of the browser if the flow has ended."""
        if found.step not in open_steps:
            self._cookies(found.provider).release(request, answer, flow_of(found.state_hash))
        return answer

    def _cookies(self, provider: str) -> Cookies:
        client = self.callback.clients.get(provider)
        return Cookies(secure=client is not None and client.redirect_uri.startswith("https://"))

    def _show(self, template: str, status: int, headers: Mapping[str, str], **values: Any) -> HTMLResponse:
        page = self.pages.get_template(template).render(**values)
        return HTMLResponse(page, status_code=status, headers=headers)


def _only_get(path: str, endpoint: Callable[[Request], Response]) -> Route:
    """Return a route without the HEAD that comes with GET: previewing a link must not use it up."""
    route = Route(path, endpoint)
    route.methods = {"GET"}
    return route


def _read_query(request: Request) -> dict[str, str]:
    """Return the parameters; none may come twice (RFC 6749 §3.1). Raises `Refused`."""
    pairs = request.query_params.multi_items()
    if len(dict(pairs)) < len(pairs):
        raise Refused(400, "This address can't be read", "Go back to the application and start again from there.")
    return dict(pairs)


def _wants_json(request: Request) -> bool:
    return "application/json" in request.headers.get("accept", "")


def _refusal_of(error: Exception) -> Refused:
    match error:
        case HTTPException(status_code=405):
            return Refused(405, "This page can't be used like that", "Go back to the application and start again.")
        case HTTPException():
            return Refused(error.status_code, "This page does not exist", "Go back to the application.")
        case Transient():
            return Refused(
                503, "We can't do this just now", "Nothing is lost. Wait a minute, then load this page again."
            )
    structlog.get_logger("web").error("request.failed", exc_info=error)
    return Refused(500, "Something went wrong here", "Go back to the application and start again from there.")


def _headers_of(error: Exception) -> Mapping[str, str]:
    match error:
        case HTTPException():
            return error.headers or {}
        case Transient():
            return {"Retry-After": f"{retry_after.total_seconds():.0f}"}
        case _:
            return {}
