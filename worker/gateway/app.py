"""The gateway's HTTP: who asks, for what, and every answer as JSON or as a problem (RFC 9457)."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Final

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from models import exact_json
from models.audit.entry import Action
from models.errors import SyncError
from models.gateway.access import connect_path_of
from models.gateway.call_request import longest_request as longest_request_of_call
from models.gateway.call_request import read_call
from models.gateway.problems import Problem, ProblemType, Refusal, refuse
from models.gateway.target import read_target
from models.messaging.trace_context import option
from models.oauth.connection import Connection, Status
from worker.gateway.body import CallerGone, read_body
from worker.gateway.call import Ask, Call
from worker.gateway.calls import Calls
from worker.gateway.desk import Noted, Wish
from worker.gateway.door import Door
from worker.gateway.office import Office
from worker.gateway.operations import Kind, longest_page, operations, usual_page
from worker.gateway.parameters import Asked, read_number, read_path, read_query, read_ttl
from worker.metrics.counters import Metrics
from worker.tracing.spans import Facts, Span, SpanName, Traces, find_ids
from worker.web.headers import plain_headers

longest_request: Final = 4_096
"""Bytes of a body that is for the gateway itself."""
most_at_once: Final = 500
shown: Final = (
    *("id", "user_id", "provider", "client_id", "account_id", "email", "status", "problem", "scope", "generation"),
    *("expires_at", "refresh_due_at", "last_synced_at", "revoked_at", "revoked_reason", "access_limited"),
    "created_at",
)


Answering = Callable[[Asked], Awaitable[Response | str]]


@dataclass(slots=True, eq=False)
class Endpoint:
    """One operation as an ASGI application: it answers with what `answer` returns, or with the problem it raises.

    `answer` returns a word for what came of it if it has answered by itself.
    """

    kind: Kind
    answer: Answering
    shell: "Shell"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, word, span = monotonic(), "answered", Span()
        answer: Response | str
        try:
            asked = Asked(scope, receive, send, self.shell.door.admit(scope))
            span = self.shell.begin_span(self.kind, asked)
            answer = await self.shell.pass_on(self.answer, asked)
        except Refusal as refused:
            answer, word = problem_response(refused.problem), refused.problem.type.value
        except CallerGone:
            answer = "caller_gone"
        if isinstance(answer, str):
            word = answer
        else:
            await answer(scope, receive, send)
        self.shell.metrics.note_gateway(self.kind, word, monotonic() - started)
        span.end({"outcome": word}, failed=word == ProblemType.failed.value)


@dataclass(slots=True, eq=False)
class Shell:
    """What all endpoints share."""

    office: Office
    door: Door
    checks: Mapping[str, Callable[[], object]]
    document: Mapping[str, Any]
    metrics: Metrics
    traces: Traces = field(default_factory=Traces)
    at_once: int = most_at_once
    under_way: int = 0

    @property
    def calls(self) -> Calls:
        return Calls(self.office.desk)

    def begin_span(self, kind: Kind, asked: Asked) -> Span:
        """Begin a span in the trace that the application says its request belongs to: it has a key."""
        given = dict(asked.scope["headers"]).get(option.encode(), b"")
        facts: Facts = {"operation": kind, **find_ids(asked.scope["path_params"])}
        return self.traces.begin(SpanName.gateway, facts, given.decode("latin-1"))

    async def pass_on(self, answer: Answering, asked: Asked) -> Response | str:
        """Answer a request that has a key, if there is room. Raises `Refusal`, and nothing of ours else."""
        if self.under_way >= self.at_once:
            raise refuse(ProblemType.unavailable, "Too many requests are under way.", 1)
        self.under_way += 1
        try:
            return await answer(asked)
        except SyncError as error:
            structlog.get_logger("gateway").warning("gateway.unavailable", error=str(error))
            text = "The database, Redis or the key server does not answer."
            raise Refusal(Problem(ProblemType.unavailable, text, timedelta(seconds=5), is_unsent=True)) from error
        except (Refusal, CallerGone):
            raise
        except Exception as error:
            structlog.get_logger("gateway").error("request.failed", exc_info=error)
            raise refuse(ProblemType.failed, "The gateway's log says what.") from error
        finally:
            self.under_way -= 1

    async def list(self, asked: Asked) -> Response:
        """Answer with a page of connections."""
        given = read_query(asked.scope["query_string"])
        limit = read_number(given.pop("limit", str(usual_page)), "limit", 1, longest_page)
        after = given.pop("cursor", "")
        if given.get("status", "active") not in set(Status):
            raise refuse(ProblemType.bad_request, f"status is one of {', '.join(Status)}.")

        def load() -> tuple[Sequence[Connection], str | None]:
            with self.office.desk.store.reading() as tx:
                return tx.gateway.page(given, asked.key.providers, after, limit)

        page, following = await self.office.run(load)
        body = {"connections": [self.show(each) for each in page], "next_cursor": following}
        return JSONResponse(body, headers=plain_headers)

    async def connection(self, asked: Asked) -> Response:
        """Answer with one connection."""
        connection_id = asked.connection_id
        found = (await self.office.run(self.office.desk.find, [connection_id])).get(connection_id)
        if found is None or not asked.key.sees(found.connection.provider):
            raise refuse(ProblemType.connection_unknown, "No connection that this key sees has this id.")
        return JSONResponse(self.show(found.connection), headers=plain_headers)

    def show(self, connection: Connection) -> dict[str, object]:
        """Return what an application may know of a connection."""
        values = {name: value for name, value in asdict(connection).items() if name in shown}
        body = {name: each.isoformat() if isinstance(each, datetime) else each for name, each in values.items()}
        if connection.status is not Status.active:
            profile = self.office.desk.providers.get(connection.provider)
            body["connect_path"] = connect_path_of(connection, "" if profile is None else profile.path_prefix)
        return body

    async def token(self, asked: Asked) -> Response:
        """Answer with an access token."""
        if not asked.key.token:
            raise refuse(ProblemType.not_allowed, "This key has no access tokens: its entry needs ;token.")
        body = await read_body(asked.scope["headers"], asked.receive, longest_request, longest_request)
        least = read_ttl(await body.whole())
        noted = Noted(Action.token_given, {"min_ttl": least}, asked.address, says_generation=True)
        wish = Wish(asked.key, asked.connection_id, timedelta(seconds=least), noted=noted)
        admission = await self.office.admit(wish)
        connection = admission.access.connection
        if admission.token is None:
            raise AssertionError("a token was admitted that is not there")
        expires_at = connection.expires_at
        given = {
            "access_token": admission.token.reveal(),
            "token_type": self.office.profile(connection).auth_scheme,
            "expires_at": None if expires_at is None else expires_at.isoformat(),
            "generation": connection.generation,
        }
        return JSONResponse(given, headers=plain_headers)

    async def call(self, asked: Asked) -> str:
        """Pass a call on, and its answer back."""
        scope, method = asked.scope, asked.scope["method"]
        if method not in asked.key.methods:
            raise refuse(ProblemType.not_allowed, f"This key may not call with {method}: see methods= in its entry.")
        path = read_path(scope, asked.connection_id)
        ask = Ask(
            key=asked.key,
            connection_id=asked.connection_id,
            method=method,
            target=read_target(path, scope["query_string"]),
            path="/" + path.decode("ascii"),
            headers=scope["headers"],
            body=await read_body(scope["headers"], asked.receive),
            address=asked.address,
        )
        return await Call(self.office, ask, asked.send, self.traces)()

    async def make_call(self, asked: Asked) -> Response:
        """Accept a call that is made as a job."""
        body = await read_body(asked.scope["headers"], asked.receive, longest_request_of_call, longest_request_of_call)
        request = read_call(await body.whole())
        call = await self.office.run(self.calls.accept, asked.key, asked.connection_id, request, asked.address)
        shown = await self.office.run(self.calls.show, call)
        return ExactResponse(shown, status_code=202, headers=plain_headers)

    async def show_call(self, asked: Asked) -> Response:
        """Answer with a call, and with the provider's answer to it."""
        call = await self.office.run(self.calls.find, asked.key, asked.call_id)
        return ExactResponse(await self.office.run(self.calls.show, call), headers=plain_headers)

    async def live(self, request: Request) -> Response:
        """Answer that the process is up."""
        return PlainTextResponse("ok\n", headers=plain_headers)

    async def ready(self, request: Request) -> Response:
        """Answer whether everything works that calls need."""
        for name, check in self.checks.items():
            try:
                await self.office.run(check)
            except Exception as error:
                structlog.get_logger("gateway").warning("readiness.failed", part=name, error=type(error).__name__)
                return PlainTextResponse(f"not ready: {name}\n", status_code=503, headers=plain_headers)
        return PlainTextResponse("ready\n", headers=plain_headers)

    async def describe(self, request: Request) -> Response:
        """Answer with the OpenAPI document."""
        return JSONResponse(self.document, headers=plain_headers)


def build_gateway_app(shell: Shell, lifespan: Lifespan[Starlette] | None = None) -> ASGIApp:
    """Return the gateway's application."""
    answers: Mapping[Kind, Answering] = {
        "list": shell.list,
        "connection": shell.connection,
        "token": shell.token,
        "call": shell.call,
        "make_call": shell.make_call,
        "show_call": shell.show_call,
    }
    routes = [
        Route("/healthz", shell.live),
        Route("/readyz", shell.ready),
        Route("/openapi.json", shell.describe),
        *(
            Route(each.route, Endpoint(each.kind, answers[each.kind], shell), methods=list(each.methods))
            for each in operations
        ),
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: refuse_route})
    app.router.redirect_slashes = False
    return app


class ExactResponse(JSONResponse):
    """JSON whose numbers are written as they came."""

    def render(self, content: object) -> bytes:
        return exact_json.dumps(content).encode()


async def refuse_route(request: Request, error: Exception) -> Response:
    """Answer for an address or a method that there is not."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        headers = error.headers or {}
        return problem_response(
            Problem(ProblemType.method_not_allowed, f"{request.method} is not known here.", headers=headers)
        )
    return problem_response(Problem(ProblemType.not_found, "See /openapi.json."))


def problem_response(problem: Problem) -> Response:
    """Return a problem as it is answered."""
    headers = {**plain_headers, "Breezesync-Source": "gateway", **problem.all_headers()}
    if problem.type is ProblemType.too_large:
        headers["Connection"] = "close"
    return JSONResponse(problem.body(), problem.type.status, headers, media_type="application/problem+json")
