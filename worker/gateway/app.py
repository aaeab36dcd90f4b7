"""The gateway's HTTP: who asks, for what, and every answer as JSON or as a problem (RFC 9457)."""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Final
from urllib.parse import parse_qsl

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from models.audit.entry import Action
from models.errors import SyncError
from models.gateway.access import connect_path_of
from models.gateway.keys import GatewayKey
from models.gateway.problems import Problem, ProblemType, Refusal, refuse
from models.gateway.target import read_target
from models.oauth.connection import Connection, Status
from worker.gateway.body import CallerGone, read_body
from worker.gateway.call import Ask, Call
from worker.gateway.desk import Wish, entry_of
from worker.gateway.door import Door, address_of
from worker.gateway.office import Office
from worker.gateway.operations import Kind, longest_page, longest_ttl, operations, usual_page, usual_ttl
from worker.metrics.counters import Metrics
from worker.web.headers import plain_headers

longest_request: Final = 4_096
"""Bytes of a body that is for the gateway itself."""
most_at_once: Final = 500
id_pattern: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
shown: Final = (
    *("id", "user_id", "provider", "client_id", "account_id", "email", "status", "problem", "scope", "generation"),
    *("expires_at", "refresh_due_at", "last_synced_at", "revoked_at", "revoked_reason", "access_limited"),
    "created_at",
)
parameters: Final = frozenset(each.name for each in operations[0].parameters)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of someone who has a key."""

    scope: Scope
    receive: Receive
    send: Send
    key: GatewayKey

    @property
    def connection_id(self) -> str:
        """Return the connection's id in the path. Raises `Refusal` if it can't be one."""
        given: str = self.scope["path_params"]["connection_id"]
        if not id_pattern.fullmatch(given):
            raise refuse(ProblemType.connection_unknown, "No connection has an id like this.")
        return given


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
        started, word = monotonic(), "answered"
        answer: Response | str
        try:
            answer = await self.shell.pass_on(self.answer, scope, receive, send)
        except Refusal as refused:
            answer, word = problem_response(refused.problem), refused.problem.type.value
        except CallerGone:
            answer = "caller_gone"
        if isinstance(answer, str):
            word = answer
        else:
            await answer(scope, receive, send)
        self.shell.metrics.note_gateway(self.kind, word, monotonic() - started)


@dataclass(slots=True, eq=False)
class Shell:
    """What all endpoints share."""

    office: Office
    door: Door
    checks: Mapping[str, Callable[[], object]]
    document: Mapping[str, Any]
    metrics: Metrics
    at_once: int = most_at_once
    under_way: int = 0

    async def pass_on(self, answer: Answering, scope: Scope, receive: Receive, send: Send) -> Response | str:
        """Answer a request that has a key, if there is room. Raises `Refusal`, and nothing of ours else."""
        key = self.door.admit(scope)
        if self.under_way >= self.at_once:
            raise refuse(ProblemType.unavailable, "Too many requests are under way.", 1)
        self.under_way += 1
        try:
            return await answer(Asked(scope, receive, send, key))
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

        def load() -> list[Connection]:
            with self.office.desk.store.reading() as tx:
                return list(tx.gateway.page(dict(given), asked.key.providers, after, limit + 1))

        found = await self.office.run(load)
        page, more = found[:limit], len(found) > limit
        body = {"connections": [self.show(each) for each in page], "next_cursor": page[-1].id if more else None}
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
        admission = await self.office.admit(Wish(asked.key, asked.connection_id, timedelta(seconds=least)))
        connection = admission.access.connection
        if admission.token is None:
            raise AssertionError("a token was admitted that is not there")
        detail = {"generation": connection.generation, "min_ttl": least}
        entry = entry_of(asked.key, Action.token_given, connection, detail, address_of(asked.scope))
        await self.office.ledger.add(entry)
        expires_at = connection.expires_at
        given = {
            "access_token": admission.token.reveal(),
            "token_type": "Bearer",
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
            address=address_of(scope),
        )
        return await Call(self.office, ask, asked.send)()

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


def read_path(scope: Scope, connection_id: str) -> bytes:
    """Return what follows `proxy/` in the path as it was sent. Raises `Refusal`."""
    raw: bytes = scope.get("raw_path") or b""
    before = f"{scope.get('root_path', '')}/v1/connections/{connection_id}/proxy/".encode()
    if not raw.startswith(before):
        raise refuse(ProblemType.bad_request, "The path up to proxy/ may not be percent-encoded.")
    return raw[len(before) :]


def read_query(query: bytes) -> dict[str, str]:
    """Return the parameters of a list, each of which may come once. Raises `Refusal`."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=10)
    except ValueError:
        raise refuse(ProblemType.bad_request, "The query can't be read.") from None
    given = dict(pairs)
    unknown = sorted(set(given) - parameters)
    if unknown or len(given) < len(pairs):
        raise refuse(ProblemType.bad_request, f"Known parameters are {', '.join(sorted(parameters))}, each once.")
    if any(not value or len(value) > 255 or not value.isprintable() for value in given.values()):
        raise refuse(ProblemType.bad_request, "A parameter has 1 to 255 visible characters.")
    return given


def read_number(text: str, name: str, least: int, most: int) -> int:
    """Return a whole number. Raises `Refusal`."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
        raise refuse(ProblemType.bad_request, f"{name} is a whole number from {least} to {most}.")
    return int(text)


def read_ttl(body: bytes) -> int:
    """Return `min_ttl` of a request for a token; a request without a body means the usual one. Raises `Refusal`."""
    if not body.strip():
        return usual_ttl
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict) or set(given) - {"min_ttl"}:
        raise refuse(ProblemType.bad_request, 'The body is empty, or JSON like {"min_ttl": 60}.')
    least = given.get("min_ttl", usual_ttl)
    if not isinstance(least, int) or isinstance(least, bool) or not 0 <= least <= longest_ttl:
        raise refuse(ProblemType.bad_request, f"min_ttl is a whole number from 0 to {longest_ttl}.")
    return least
