"""HTTP: the routes, and each response's headers, cookie, and page or JSON."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from anyio import from_thread
from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Lifespan

from models.audit.entry import Action
from models.errors import SyncError, Transient
from models.oauth.authorization import Authorization, awaits_application, describe_result, flow_of, open_steps
from worker.tracing.requests import TraceRequests
from worker.tracing.spans import Traces
from worker.web.callback import Callback
from worker.web.cookies import Cookies
from worker.web.form import read_form
from worker.web.guard import Allowance, Guard
from worker.web.headers import SecureHeaders, headers_of_pages
from worker.web.hooks import Hooks
from worker.web.locations import add_to_query, allow_form, find_way_on
from worker.web.refusal import Refused
from worker.web.refused_requests import RefusedRequests, address_of

retry_after = timedelta(seconds=30)
usual_allowance = Allowance()
no_traces = Traces()


def build_app(
    callback: Callback,
    allowance: Allowance = usual_allowance,
    lifespan: Lifespan[Starlette] | None = None,
    hooks: Hooks | None = None,
    traces: Traces = no_traces,
) -> ASGIApp:
    """Return the public application: connect, callback and result, and providers' webhooks, within the allowance."""
    pages = open_pages()
    https = any(client.redirect_uri.startswith("https://") for client in callback.clients.values())
    headers = headers_of_pages(read_style(pages), https=https)
    answers = Answers(callback, pages, RefusedRequests(callback), headers, hooks)
    refuse = answers.refuse
    app = Starlette(
        routes=routes_of(answers),
        lifespan=lifespan,
        exception_handlers={Refused: refuse, SyncError: refuse, HTTPException: refuse, Exception: refuse},
    )
    app.router.redirect_slashes = False
    traced = TraceRequests(app, traces, callback.providers) if traces.is_on else app
    return SecureHeaders(Guard(traced, refuse, allowance), headers)


@dataclass(frozen=True, slots=True)
class Answers:
    """One method for each route, and one for every refusal; `headers` are those of every page."""

    callback: Callback
    pages: Environment
    refused: RefusedRequests
    headers: Mapping[str, str]
    hooks: Hooks | None = None

    def begin(self, request: Request) -> Response:
        name = request.path_params["provider"]
        cookies = self._cookies(name)
        with self.refused.recording(Action.link_refused, request):
            token = _read_query(request).get("token", "")
            begun = self.callback.begin(name, token, cookies.read(request), address_of(request))
        if begun.question is None:
            answer: Response = RedirectResponse(begun.location, status_code=302)
        else:
            asked = begun.question
            headers = allow_form(self.headers, begun.location, str(request.url), asked.return_to)
            answer = self._show("confirm.html", 200, headers, asked=asked, action=f"{name}/start")
        cookies.bind(answer, begun.flow, begun.binding)
        return answer

    def start(self, request: Request) -> Response:
        name = request.path_params["provider"]
        with self.refused.recording(Action.link_refused, request):
            clicked = self.callback.click(name, read_form(request), self._cookies(name).read(request))
        if clicked.location is not None:
            return RedirectResponse(clicked.location, status_code=303)
        return self._release(request, self._show("not_me.html", 200, {}), clicked.authorization)

    def finish(self, request: Request) -> Response:
        name = request.path_params["provider"]
        bindings = self._cookies(name).read(request)
        with self.refused.recording(Action.callback_refused, request):
            found = self.callback.finish(name, _read_query(request), bindings, address_of(request))
        answer = RedirectResponse(find_way_on(found, bindings), status_code=303)
        return self._release(request, answer, found)

    def done(self, request: Request) -> Response:
        found = self.callback.outcome(request.path_params["provider"], request.path_params["authorization_id"])
        return self._release(request, self._show_result(request, found), found)

    def receive(self, request: Request) -> Response:
        """Take a provider's webhook; the answer is the same whatever it is about."""
        name, secret = request.path_params["provider"], request.path_params["secret"]
        headers = {key.lower(): value for key, value in request.headers.items()}
        body: bytes = from_thread.run(request.body)
        with self.refused.recording(Action.hook_refused, request):
            if self.hooks is None:
                raise Refused(404, "This page does not exist", "Go back to the application.")
            self.hooks.receive(name, secret, headers, body)
        return Response(status_code=204)

    def refuse(self, request: Request, error: Exception) -> Response:
        refused = error if isinstance(error, Refused) else _refusal_of(error)
        headers = _headers_of(error)
        if _wants_json(request):
            body = {"error": refused.title, "advice": refused.advice}
            return JSONResponse(body, status_code=refused.status, headers=headers)
        back = refused.return_to and add_to_query(refused.return_to, {"status": "failed", "reason": "expired"})
        return self._show(
            "refused.html", refused.status, headers, title=refused.title, advice=refused.advice, back=back
        )

    def _show_result(self, request: Request, found: Authorization) -> Response:
        answer = describe_result(found)
        if _wants_json(request):
            return JSONResponse(answer)
        if found.return_to is not None and answer["status"] != "pending":
            back = {"status": answer["status"], "connection_id": found.connection_id, "reason": found.reason}
            location = add_to_query(found.return_to, {name: value for name, value in back.items() if value})
            return RedirectResponse(location, status_code=303)
        provider = self.callback.providers[found.provider].shown_name
        shown = {"provider": provider, "reason": found.reason, "is_kept": awaits_application(found)}
        return self._show(f"{answer['status']}.html", 200, {}, **shown)

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


def routes_of(answers: Answers) -> list[Route]:
    """Return all that the public application answers; docs/openapi.yaml describes it."""
    return [
        _only_get("/auth/{provider}", answers.begin),
        Route("/auth/{provider}/start", answers.start, methods=["POST"]),
        _only_get("/auth/{provider}/callback", answers.finish),
        Route("/auth/{provider}/done/{authorization_id}", answers.done),
        Route("/hooks/{provider}/{secret}", answers.receive, methods=["POST"]),
    ]


def open_pages() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "pages"), autoescape=select_autoescape(default=True)
    )


def read_style(pages: Environment) -> str:
    """Return the style sheet that every page has in it, which is the only one that a browser may apply."""
    assert pages.loader is not None  # noqa: S101 - it was given one
    source = pages.loader.get_source(pages, "page.html")[0]
    return source.partition("<style>")[2].partition("</style>")[0]


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
        case HTTPException(status_code=413):
            return Refused(413, "That was too much", "Go back to the application and start again.")
        case HTTPException(status_code=429):
            return Refused(429, "Too many requests came from your network", "Wait a minute, then load this page again.")
        case HTTPException(status_code=503):
            return Refused(503, "Too many people are here just now", "Wait a moment, then load this page again.")
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
