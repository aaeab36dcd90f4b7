"""The operator's routes: sign-in, pages, actions, and the same as JSON.

How the pages plug in. `worker/operator/pages.py` has a class that fulfils `Pages` of `worker/operator/visit.py`: a page
for each path below /operator, the files that pages refer to, the form for signing in, and the page of a refusal. This
module decides who sees them. It gives a page a `Visit`; the page loads its view (`worker/operator/views`) from
`visit.sources` and returns HTML. All links are relative (`visit.root`), so that a proxy's path prefix stays.

A form of a page posts to `{root}actions/NAME`, with these fields: `form_token` (of the visit), what the action needs,
and `back`, the path below /operator that the browser is sent to afterwards, such as `connections/ID`. That page's visit
then has a `notice`. The form for signing out posts `form_token` to `{root}sign-out`.

| action | fields |
| --- | --- |
| `refresh`, `sync` | `connection_id` |
| `disconnect` | `connection_id`, `erase` ("yes" or nothing), `confirmation`: the user's id, as the operator typed it |
| `pause`, `resume`, `hold`, `release` | `provider` |
| `accept` | `provider`, `confirmation`: the provider's name, as the operator typed it |
| `webhook-pause`, `webhook-resume`, `webhook-retry`, `webhook-test` | `webhook`: the endpoint's name |
| `dead-letter-retry` | `queue`, `key` |
| `dead-letters-retry-all` | |
| `dead-letter-drop` | `queue`, `key`, `confirmation`: "drop" |

The headers of every page allow styles, scripts and images of `/operator/assets/` only, and forms to this origin only;
`Referrer-Policy` is `same-origin`, so that a form's `Origin` can be checked.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import urlencode

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from models.errors import SyncError
from worker.metrics.kept import Kept
from worker.operator.actions import Actions, Done, Outcome, notices
from worker.operator.api import Api, problem
from worker.operator.sign_in import Session, SignIns, is_own_form, is_same_origin
from worker.operator.views.places import UnreadablePlace
from worker.operator.views.sources import Sources
from worker.operator.visit import Page, Pages, Refusal, SignIn, Visit
from worker.web.form import read_form
from worker.web.guard import Allowance, Guard
from worker.web.headers import SecureHeaders, plain_headers
from worker.web.protocol import Network
from worker.web.refusal import Refused

policy: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
page_headers: Final = {**plain_headers, "Content-Security-Policy": policy, "Referrer-Policy": "same-origin"}
elsewhere = Refusal(
    404,
    "The operator's page is not here",
    "This process's database role can't read what the page shows: open the page of the process that runs "
    "uvicorn --factory worker.main:operator, in Compose the service operator at port 8703.",
)
path_pattern = re.compile(r"[a-z-]{0,40}(/[0-9A-Za-z-]{1,64}){0,3}(\?[0-9A-Za-z_=&%.@+-]{0,600})?")
cannot_read = Refusal(400, "This form can't be read", "Go back, load the page again, and send its form again.")
not_own_form = Refusal(
    403, "This form is not of your session", "Nothing was done. Go back, load the page again, and send its form again."
)
too_many = Refusal(429, "Too many tries", "Wait a minute, then sign in with OPERATOR_TOKEN.")
no_page = Refusal(404, "There is no such page", "Begin with the overview.")


@dataclass(frozen=True, slots=True)
class Site:
    """All that the operator's routes are made of.

    page_actions, api_actions: what a form and the API do; they differ in what the audit says.
    proxies: whose forwarding headers are believed.
    """

    sources: Sources
    sign_ins: SignIns
    page_actions: Actions
    api_actions: Actions
    pages: Pages
    proxies: tuple[Network, ...] = ()


def build_operator_routes(site: Site) -> list[BaseRoute]:
    """Return the routes of `/operator`."""
    rights = Kept(partial(_read_rights, site.sources), least=30)

    def find_obstacle() -> Refusal | None:
        return None if rights.get().may_operate else elsewhere

    answers = Answers(site, find_obstacle)
    api = Api(site.sign_ins, site.sources, site.api_actions, find_obstacle)
    app = Starlette(
        routes=[
            api.root(),
            Mount("/api", routes=api.routes()),
            Mount("/", app=SecureHeaders(Starlette(routes=answers.routes()), page_headers)),
        ]
    )
    allowance = Allowance(per_minute=600, addresses=4_096, at_once=32, proxies=site.proxies)
    return [
        Route("/operator", _to_overview, methods=["GET"]),
        Mount("/operator", app=Guard(app, answers.refuse_request, allowance)),
    ]


@dataclass(frozen=True, slots=True)
class _Rights:
    may_operate: bool


def _read_rights(sources: Sources) -> _Rights:
    with sources.store.reading() as tx:
        return _Rights(tx.overview.may_operate())


def _to_overview(request: Request) -> Response:
    """Lead to the overview, relative to this path, whatever prefix a proxy puts before it."""
    return RedirectResponse("operator/", 303)


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to a browser."""

    site: Site
    find_obstacle: Callable[[], Refusal | None]

    def routes(self) -> list[BaseRoute]:
        """Return the routes of pages, forms and assets, and one for all that there is not."""
        pages = [Route(f"/{path}", self._page(page), methods=["GET"]) for path, page in self.site.pages.pages.items()]
        own = [
            Route("/sign-in", self._answer(self.show_sign_in), methods=["GET"]),
            Route("/sign-in", self._answer(self.sign_in), methods=["POST"]),
            Route("/sign-out", self._answer(self.sign_out), methods=["POST"]),
            Route("/actions/{name}", self._answer(self.act), methods=["POST"]),
            Route("/assets/{name}", self.show_asset, methods=["GET"]),
        ]
        return [*own, *pages, Route("/{path:path}", self._answer(lambda request: self._refuse(request, no_page)))]

    def show_sign_in(self, request: Request) -> Response:
        to = read_path(request.query_params.get("to", ""))
        if self.site.sign_ins.find(request) is not None:
            return RedirectResponse(to or "./", 303)
        return self.site.pages.sign_in(SignIn(root_of(request), to))

    def sign_in(self, request: Request) -> Response:
        form = read_form(request)
        to = read_path(form.get("to", ""))
        if not is_same_origin(request):
            return self._refuse(request, not_own_form)
        if self.site.sign_ins.is_blocked(request):
            return self._refuse(request, too_many)
        if not self.site.sign_ins.is_right(request, form.get("token", "")):
            failure = "That is not the token: it is the value of OPERATOR_TOKEN in this process's settings."
            response = self.site.pages.sign_in(SignIn(root_of(request), to, failure))
            response.status_code = 403
            return response
        response = RedirectResponse(with_notice(to, "signed_in"), 303)
        self.site.sign_ins.open(request, response)
        return response

    def sign_out(self, request: Request) -> Response:
        form, session = read_form(request), self.site.sign_ins.find(request)
        if session is not None and not is_own_form(request, session, form.get("form_token", "")):
            return self._refuse(request, not_own_form)
        response = RedirectResponse("sign-in", 303)
        self.site.sign_ins.close(request, response)
        return response

    def act(self, request: Request) -> Response:
        """Do what a form asks for, and send the browser back to the page that it names."""
        form, session = read_form(request), self.site.sign_ins.find(request)
        back = read_path(form.get("back", ""))
        if session is None:
            return RedirectResponse(f"{root_of(request)}sign-in", 303)
        if not is_own_form(request, session, form.get("form_token", "")):
            return self._refuse(request, not_own_form)
        action = actions_of_forms(self.site.page_actions).get(request.path_params["name"])
        if action is None:
            return self._refuse(request, no_page)
        outcome = action(form)
        if not isinstance(outcome, Done):
            return self._refuse(request, outcome)
        return RedirectResponse(root_of(request) + with_notice(back, outcome.notice), 303)

    def show_asset(self, request: Request) -> Response:
        found = self.site.pages.assets.get(request.path_params["name"])
        if found is None:
            return self._refuse(request, no_page)
        media_type, content = found
        return Response(content, media_type=media_type, headers={"Cache-Control": "private, max-age=300"})

    def refuse_request(self, request: Request, error: Exception) -> Response:
        """Return what the guard refuses: too many requests, or a body that is too long."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        texts = {
            429: Refusal(429, "Too many requests", "Wait a minute."),
            413: Refusal(413, "That is too long", "Send less."),
            503: Refusal(503, "Too much is under way", "Try again in a second."),
        }
        refusal = texts.get(status, Refusal(status, "That failed", "Try again."))
        is_api = "/operator/api/" in request.scope["path"]
        response = problem(refusal) if is_api else self._refuse(request, refusal)
        for name, value in (getattr(error, "headers", None) or {}).items():
            response.headers[name] = value
        return response

    def _page(self, page: Page) -> Callable[[Request], Response]:
        return self._answer(partial(self._show, page))

    def _show(self, page: Page, request: Request) -> Response:
        session = self.site.sign_ins.find(request)
        if session is None:
            return RedirectResponse(_way_to_sign_in(request), 303)
        return page(self._visit(request, session)) or self._refuse(request, no_page)

    def _visit(self, request: Request, session: Session) -> Visit:
        notice = notices.get(request.query_params.get("notice", ""))
        return Visit(request, self.site.sources, session.form_token, root_of(request), notice)

    def _answer(self, answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
        """Return an endpoint that says in a page why it can't answer."""

        def endpoint(request: Request) -> Response:
            try:
                obstacle = self.find_obstacle()
                return answer(request) if obstacle is None else self._refuse(request, obstacle)
            except UnreadablePlace as error:
                return self._refuse(request, Refusal(400, "There is no such page", f"{error}."))
            except Refused as refused:
                return self._refuse(request, not_own_form if refused.status == 403 else cannot_read)
            except SyncError as error:
                return self._refuse(request, Refusal(503, "The database or Redis does not answer", f"{error}."))
            except HTTPException:
                raise
            except Exception as error:
                structlog.get_logger("operator").error("page.failed", error=type(error).__name__)
                return self._refuse(request, Refusal(500, "That failed", "The log of this process says more."))

        return endpoint

    def _refuse(self, request: Request, refusal: Refusal) -> Response:
        return self.site.pages.refuse(root_of(request), refusal)


Form = Mapping[str, str]


def actions_of_forms(actions: Actions) -> Mapping[str, Callable[[Form], Outcome]]:
    """Return what each form does; a field that is missing counts as empty."""

    def of(form: Form, *names: str) -> Sequence[str]:
        return [form.get(name, "") for name in names]

    return {
        "refresh": lambda form: actions.ask("refresh", form.get("connection_id", "")),
        "sync": lambda form: actions.ask("sync", form.get("connection_id", "")),
        "disconnect": lambda form: actions.ask(
            "disconnect", form.get("connection_id", ""), form.get("erase") == "yes", form.get("confirmation")
        ),
        "pause": lambda form: actions.pause(*of(form, "provider")),
        "resume": lambda form: actions.resume(*of(form, "provider")),
        "hold": lambda form: actions.hold(*of(form, "provider")),
        "release": lambda form: actions.release(*of(form, "provider")),
        "accept": lambda form: actions.accept(*of(form, "provider", "confirmation")),
        "webhook-pause": lambda form: actions.pause_webhook(*of(form, "webhook")),
        "webhook-resume": lambda form: actions.resume_webhook(*of(form, "webhook")),
        "webhook-retry": lambda form: actions.retry_webhook(*of(form, "webhook")),
        "webhook-test": lambda form: actions.test_webhook(*of(form, "webhook")),
        "dead-letter-retry": lambda form: actions.retry(*of(form, "queue", "key")),
        "dead-letters-retry-all": lambda form: actions.retry_all(),
        "dead-letter-drop": lambda form: actions.drop(*of(form, "queue", "key", "confirmation")),
    }


def read_path(text: str) -> str:
    """Return a path below /operator that a form or a link names; the overview's for anything else."""
    return text if path_pattern.fullmatch(text) else ""


def with_notice(path: str, notice: str) -> str:
    """Return the path with a notice for its page, in place of one that it has."""
    before, _, query = path.partition("?")
    kept = [each for each in query.split("&") if each and not each.startswith("notice=")]
    return f"{before or './'}?{'&'.join([*kept, f'notice={notice}'])}"


def root_of(request: Request) -> str:
    """Return what precedes a path below /operator to make it relative to this request's: "" or "../"."""
    return "../" * _path_below(request).count("/")


def _path_below(request: Request) -> str:
    return str(request.scope["path"]).partition("/operator/")[2]


def _way_to_sign_in(request: Request) -> str:
    query = request.url.query
    to = read_path(f"{_path_below(request)}?{query}" if query else _path_below(request))
    return f"{root_of(request)}sign-in" + (f"?{urlencode({'to': to})}" if to else "")
