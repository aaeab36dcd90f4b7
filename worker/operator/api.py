"""The operator's API: every view and action as JSON, for whoever sends OPERATOR_TOKEN as a bearer token.

A session's cookie counts for nothing here, so that no other site's page can use it. Errors are problem documents
(RFC 9457).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog
from anyio import from_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from models.audit.entry import bound_text
from models.errors import SyncError
from worker.operator.actions import Actions, Done, Outcome, notices
from worker.operator.sign_in import SignIns
from worker.operator.views.authorizations import load_authorizations, steps_of
from worker.operator.views.connections import load_connections, read_search, search_parameters
from worker.operator.views.dead_letters import load_dead_letters
from worker.operator.views.documents import as_json
from worker.operator.views.events import load_events
from worker.operator.views.groups import load_groups
from worker.operator.views.overview import load_overview
from worker.operator.views.places import UnreadablePlace
from worker.operator.views.providers import load_providers
from worker.operator.views.queues import load_queues
from worker.operator.views.sources import Sources
from worker.operator.views.story import load_story
from worker.operator.views.webhooks import load_webhooks
from worker.operator.visit import Refusal

View = Callable[[Request, Sources], object | None]
Act = Callable[[Request, "Wanted"], Outcome]
types: Final[Mapping[int, str]] = {
    400: "invalid_request",
    401: "unauthorized",
    403: "not_allowed",
    404: "not_found",
    405: "not_allowed",
    409: "not_possible",
    413: "too_large",
    422: "not_confirmed",
    429: "rate_limited",
    503: "unavailable",
}
parameters: Final[Mapping[str, frozenset[str]]] = {
    "connections": search_parameters,
    "authorizations": frozenset({"which", "user_id", "older_than"}),
    "events": frozenset({"type", "connection_id", "older_than"}),
}
"""What each list can be narrowed down by; the other views take none."""
not_found = Refusal(404, "There is no such thing", "Look for it in one of the lists.")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The body of an action, a JSON object; everything in it may be left out."""

    erase: bool = False
    confirmation: str | None = None


class UnreadableRequest(ValueError):
    """A parameter or a body is not what the request takes; the text says which."""


def _views() -> Mapping[str, View]:
    return {
        "": lambda request, sources: load_overview(sources),
        "overview": lambda request, sources: load_overview(sources),
        "connections": lambda request, sources: load_connections(sources, read_search(request.query_params)),
        "connections/{id}": lambda request, sources: _load_story(request, sources, "connection"),
        "authorizations": _load_authorizations,
        "authorizations/{id}": lambda request, sources: _load_story(request, sources, "authorization"),
        "dead-letters": lambda request, sources: load_dead_letters(sources),
        "groups": lambda request, sources: load_groups(sources),
        "events": _load_events,
        "providers": lambda request, sources: load_providers(sources),
        "queues": lambda request, sources: load_queues(sources),
        "webhooks": lambda request, sources: load_webhooks(sources),
    }


def _acts(actions: Actions) -> Mapping[str, Act]:
    def path(request: Request, name: str) -> str:
        return str(request.path_params[name])

    return {
        "connections/{id}/refresh": lambda request, wanted: actions.ask("refresh", path(request, "id")),
        "connections/{id}/sync": lambda request, wanted: actions.ask("sync", path(request, "id")),
        "connections/{id}/disconnect": lambda request, wanted: actions.ask(
            "disconnect", path(request, "id"), wanted.erase, wanted.confirmation
        ),
        "providers/{name}/pause": lambda request, wanted: actions.pause(path(request, "name")),
        "providers/{name}/resume": lambda request, wanted: actions.resume(path(request, "name")),
        "providers/{name}/hold": lambda request, wanted: actions.hold(path(request, "name")),
        "providers/{name}/release": lambda request, wanted: actions.release(path(request, "name")),
        "providers/{name}/accept": lambda request, wanted: actions.accept(path(request, "name"), wanted.confirmation),
        "webhooks/{name}/pause": lambda request, wanted: actions.pause_webhook(path(request, "name")),
        "webhooks/{name}/resume": lambda request, wanted: actions.resume_webhook(path(request, "name")),
        "webhooks/{name}/retry": lambda request, wanted: actions.retry_webhook(path(request, "name")),
        "webhooks/{name}/test": lambda request, wanted: actions.test_webhook(path(request, "name")),
        "dead-letters/retry-all": lambda request, wanted: actions.retry_all(),
        "dead-letters/{queue}/{key}/retry": lambda request, wanted: actions.retry(
            path(request, "queue"), path(request, "key")
        ),
        "dead-letters/{queue}/{key}/drop": lambda request, wanted: actions.drop(
            path(request, "queue"), path(request, "key"), wanted.confirmation
        ),
    }


@dataclass(frozen=True, slots=True)
class Api:
    """The routes below /operator/api. `find_obstacle` returns why this process can't show anything."""

    sign_ins: SignIns
    sources: Sources
    actions: Actions
    find_obstacle: Callable[[], Refusal | None]

    def routes(self) -> list[BaseRoute]:
        """Return every route, and one for all that there is not."""
        gets = [Route(f"/{path}", self._get(path, view), methods=["GET"]) for path, view in _views().items()]
        posts = [Route(f"/{path}", self._post(act), methods=["POST"]) for path, act in _acts(self.actions).items()]
        every = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
        return [*gets, *posts, Route("/{path:path}", self._guarded(lambda request: problem(not_found)), methods=every)]

    def root(self) -> Route:
        """Return the route of `/operator/api` itself, which shows the overview as `/operator/` does."""
        return Route("/api", self._get("", _views()[""]), methods=["GET"])

    def _get(self, path: str, view: View) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            _check_parameters(request, parameters.get(path, frozenset()))
            found = view(request, self.sources)
            return problem(not_found) if found is None else _json(as_json(found), 200)

        return self._guarded(answer)

    def _post(self, act: Act) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            outcome = act(request, read_wanted(request))
            if not isinstance(outcome, Done):
                return problem(outcome)
            document = {"done": outcome.notice, "notice": notices[outcome.notice], **outcome.numbers}
            return _json(json.dumps(document), 202)

        return self._guarded(answer)

    def _guarded(self, answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
        def endpoint(request: Request) -> Response:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not self.sign_ins.is_right(request, given.strip()):
                return _unauthorized()
            try:
                obstacle = self.find_obstacle()
                return answer(request) if obstacle is None else problem(obstacle)
            except (UnreadablePlace, UnreadableRequest) as error:
                return problem(Refusal(400, "This request can't be read", f"{error}."))
            except SyncError as error:
                return problem(Refusal(503, "The database or Redis does not answer", f"{error}."))
            except HTTPException:
                raise
            except Exception as error:
                structlog.get_logger("operator").error("api.failed", error=type(error).__name__)
                return problem(Refusal(500, "That failed", "The log of this process says more."))

        return endpoint


def read_wanted(request: Request) -> Wanted:
    """Read the body of an action; call it on the thread of a plain endpoint. Raises `UnreadableRequest`."""
    body: bytes = from_thread.run(request.body)
    if not body.strip():
        return Wanted()
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise UnreadableRequest("the body has to be application/json")
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise UnreadableRequest("the body is not JSON") from None
    if not isinstance(document, dict) or not document.keys() <= {"erase", "confirmation"}:
        raise UnreadableRequest("the body has to be an object with erase and confirmation, or less")
    erase, confirmation = document.get("erase", False), document.get("confirmation")
    if not isinstance(erase, bool) or not isinstance(confirmation, str | None):
        raise UnreadableRequest("erase has to be true or false, and confirmation a text")
    return Wanted(erase, confirmation)


def _check_parameters(request: Request, known: frozenset[str]) -> None:
    """Raise `UnreadableRequest` for a parameter that would be ignored: a list would be longer than was asked for."""
    unknown = sorted(request.query_params.keys() - known)
    if unknown:
        expected = f"known are {', '.join(sorted(known))}" if known else "it takes none"
        raise UnreadableRequest(f"{bound_text(unknown[0])} is no parameter of this view: {expected}")


def problem(refusal: Refusal) -> Response:
    """Return a problem document."""
    document = {
        "type": types.get(refusal.status, "failed"),
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.advice,
    }
    return _json(json.dumps(document), refusal.status, "application/problem+json")


def _unauthorized() -> Response:
    response = problem(Refusal(401, "This needs the operator's token", "Send Authorization: Bearer OPERATOR_TOKEN."))
    response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _json(document: str, status: int, media_type: str = "application/json") -> Response:
    return Response(document.encode("utf-8", "backslashreplace"), status, media_type=media_type)


def _load_story(request: Request, sources: Sources, kind: str) -> object | None:
    story = load_story(sources, request.path_params["id"])
    return story if story is not None and story.kind == kind else None


def _load_authorizations(request: Request, sources: Sources) -> object:
    wanted = request.query_params
    words = {str(each or ""): each for each in steps_of}
    if (word := wanted.get("which", "")) not in words:
        raise UnreadableRequest("which has to be under_way or failed")
    return load_authorizations(sources, words[word], wanted.get("user_id") or None, wanted.get("older_than") or None)


def _load_events(request: Request, sources: Sources) -> object:
    names = ("type", "connection_id", "older_than")
    return load_events(sources, *(request.query_params.get(name) or None for name in names))
