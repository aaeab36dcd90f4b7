"""The HTTP endpoints a user's browser meets: the connect link, the provider's redirect back, the result page."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from secrets import token_urlsafe
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from uuid import uuid4

import structlog
from jinja2 import Environment, FileSystemLoader, select_autoescape
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from models import messages
from models.authorization import Authorization, Step, answer_for_page, challenge_of, hash_of, lifetime
from models.connect_link import LinkRefused, read_link
from models.errors import SyncError, Transient
from models.events import AuthorizationFailed
from models.provider import OAuthClient, Provider
from models.secrets import Secret
from models.store import Store, Transaction
from models.vault import Place, Vault

longest_code = 8192
cookie_lifetime = timedelta(hours=1)
security_headers = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Refused(Exception):
    """An answer that ends here: a status, and what a person is told to do about it."""

    def __init__(self, status: int, title: str, advice: str) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Callback:
    """The flow that a browser walks through; every decision it takes is committed before it answers."""

    store: Store
    vault: Vault
    providers: Mapping[str, Provider]
    clients: Mapping[str, OAuthClient]
    connect_secrets: tuple[Secret, ...]
    return_origins: frozenset[str]
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]

    def begin(self, name: str, token: str, browser: str | None) -> tuple[str, str]:
        """Opens a connect link once: where to send the browser, and the value that binds it to this flow."""
        provider, client = self._provider(name), self.clients.get(name)
        if client is None:
            raise Refused(404, "This provider is not set up", "Ask the application's operator to set its OAuth client.")
        now = self.now()
        try:
            link = read_link(token, self.connect_secrets, now, self.return_origins)
        except LinkRefused as refused:
            raise Refused(400, "This link can't be used", str(refused)) from None
        authorization_id, state, verifier = uuid4().hex, token_urlsafe(32), token_urlsafe(48)
        browser = browser or token_urlsafe(32)
        authorization = Authorization(
            id=authorization_id,
            provider=name,
            client_id=client.client_id,
            user_id=link.user_id,
            redirect_uri=client.redirect_uri,
            step=Step.started,
            state_hash=hash_of(state),
            browser_hash=hash_of(browser),
            created_at=now,
            expires_at=now + lifetime,
            verifier=self.vault.seal(Secret(verifier), Place("authorization", authorization_id, "verifier"))
            if provider.pkce
            else None,
            return_to=link.return_to,
            team_ids=link.team_ids,
            target_connection_id=link.connection_id,
        )
        with self.store.writing() as tx:
            self._check_target(tx, authorization)
            if not tx.authorizations.add(authorization, hash_of(f"{link.user_id}\n{link.jti}")):
                raise Refused(400, "This link was already used", "Go back to the application and ask for a new one.")
        challenge = challenge_of(verifier) if provider.pkce else None
        return provider.authorize_url_for(client.client_id, client.redirect_uri, state, challenge), browser

    def finish(self, name: str, query: Mapping[str, str], browser: str | None) -> str:
        """Takes the provider's redirect back: the path of the result page. It uses the state up."""
        provider, now = self._provider(name), self.now()
        code, error = query.get("code", ""), query.get("error", "")
        if not code and not error:
            raise Refused(400, "The provider sent nothing back", "Go back to the application and start again.")
        stranger = Refused(403, "This page can't be used", "Go back to the application and start again from there.")
        if browser is None or (query.get("iss") and provider.issuer and query["iss"] != provider.issuer):
            raise stranger
        with self.store.writing() as tx:
            found = self._find(tx, name, query.get("state", ""), bool(error), hash_of(browser), now)
            if found is None:
                raise stranger
            if error:
                if not self._end(tx, found, error, query.get("error_description", ""), now):
                    raise stranger
            elif len(code) > longest_code:
                raise Refused(400, "The provider's answer is not a code", "Go back to the application and start again.")
            else:
                sealed = self.vault.seal(Secret(code), Place("authorization", found.id, "code"))
                if not tx.authorizations.take_code(found, sealed, now):
                    raise stranger
        self.send(messages.publish_events() if error else messages.exchange_code(found.id))
        return f"/auth/{name}/done/{found.id}"

    def outcome(self, name: str, authorization_id: str) -> Authorization:
        self._provider(name)
        with self.store.reading() as tx:
            found = tx.authorizations.get(authorization_id)
        if found is None or found.provider != name:
            raise Refused(404, "There is no such page", "Go back to the application and start again from there.")
        return found

    def _provider(self, name: str) -> Provider:
        provider = self.providers.get(name)
        if provider is None:
            raise Refused(404, "There is no such provider", "Check the link, or go back to the application.")
        return provider

    def _check_target(self, tx: Transaction, authorization: Authorization) -> None:
        """A link may name a connection to authorize again: one of this user at this provider."""
        if authorization.target_connection_id is None:
            return
        target = tx.connections.get(authorization.target_connection_id)
        if target is None or (target.user_id, target.provider) != (authorization.user_id, authorization.provider):
            raise Refused(400, "This link can't be used", "It names a connection that is not there. Ask for a new one.")

    def _find(
        self, tx: Transaction, name: str, state: str, is_error: bool, browser_hash: str, now: datetime
    ) -> Authorization | None:
        """The flow by its state and browser; an error may come without a state, then only the browser names it."""
        if not state and is_error:
            return tx.authorizations.newest_of_browser(name, browser_hash, now)
        found = tx.authorizations.by_state(hash_of(state))
        if found is None or found.provider != name or found.browser_hash != browser_hash:
            return None
        return found if found.step is Step.started and found.expires_at > now else None

    def _end(self, tx: Transaction, found: Authorization, error: str, description: str, now: datetime) -> bool:
        """Ends the flow by the provider's error: the user's no, or trouble with what we asked for."""
        denied = error == "access_denied"
        step, reason = (Step.denied, "denied") if denied else (Step.failed, "client_rejected")
        text = _plain(description) or ("the user said no" if denied else f"the provider answered {_plain(error)}")
        if not tx.authorizations.end(found.id, step, reason, text, now):
            return False
        fact = AuthorizationFailed(found.id, "denied" if denied else "client_rejected", text)
        tx.outbox.append(found.about, [fact], now)
        return True


def build_app(callback: Callback, check: Callable[[], object]) -> Starlette:
    """The web application; `check` raises where the database, its schema or Redis does not answer."""
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "pages"), autoescape=select_autoescape(default=True)
    )
    show = partial(_show, pages)

    def begin(request: Request) -> Response:
        name = request.path_params["provider"]
        cookie = cookie_name(callback.clients.get(name))
        url, browser = callback.begin(name, request.query_params.get("token", ""), _cookie(request, cookie))
        answer = RedirectResponse(url, status_code=302, headers=security_headers)
        answer.set_cookie(
            cookie,
            browser,
            max_age=round(cookie_lifetime.total_seconds()),
            path="/",
            secure=cookie.startswith("__Host-"),
            httponly=True,
            samesite="lax",
        )
        return answer

    def finish(request: Request) -> Response:
        name = request.path_params["provider"]
        cookie = cookie_name(callback.clients.get(name))
        path = callback.finish(name, dict(request.query_params), _cookie(request, cookie))
        return RedirectResponse(path, status_code=303, headers=security_headers)

    def done(request: Request) -> Response:
        found = callback.outcome(request.path_params["provider"], request.path_params["authorization_id"])
        answer = answer_for_page(found)
        if "application/json" in request.headers.get("accept", ""):
            return JSONResponse(answer, headers=security_headers)
        if found.return_to is not None and answer["status"] != "pending":
            back = {"status": answer["status"], "connection_id": found.connection_id, "reason": found.reason}
            location = add_to_query(found.return_to, {name: value for name, value in back.items() if value})
            return RedirectResponse(location, status_code=303, headers=security_headers)
        provider = callback.providers[found.provider].shown_name
        return show(f"{answer['status']}.html", 200, provider=provider, reason=found.reason)

    def refuse(request: Request, error: Exception) -> Response:
        refused = error if isinstance(error, Refused) else _refusal_of(error)
        if "application/json" in request.headers.get("accept", ""):
            body = {"error": refused.title, "advice": refused.advice}
            return JSONResponse(body, status_code=refused.status, headers=security_headers)
        return show("refused.html", refused.status, title=refused.title, advice=refused.advice)

    def ready(request: Request) -> Response:
        try:
            check()
        except Exception as error:
            structlog.get_logger("web").warning("readiness.failed", error=type(error).__name__)
            return PlainTextResponse("not ready\n", status_code=503)
        return PlainTextResponse("ready\n")

    return Starlette(
        routes=[
            Route("/auth/{provider}", begin),
            Route("/auth/{provider}/callback", finish),
            Route("/auth/{provider}/done/{authorization_id}", done),
            Route("/healthz", lambda request: PlainTextResponse("ok\n")),
            Route("/readyz", ready),
            Route("/metrics", lambda request: Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)),
        ],
        exception_handlers={Refused: refuse, SyncError: refuse, HTTPException: refuse, Exception: refuse},
    )


def cookie_name(client: OAuthClient | None) -> str:
    """The browser-binding cookie: host-bound where we are served over https, so that no other host can plant one."""
    secure = client is not None and client.redirect_uri.startswith("https://")
    return "__Host-breezesync" if secure else "breezesync"


def add_to_query(url: str, more: Mapping[str, str]) -> str:
    """The URL with parameters added to (and replacing) those it has."""
    parts = urlsplit(url)
    kept = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] not in more]
    return urlunsplit(parts._replace(query=urlencode([*kept, *more.items()])))


def _cookie(request: Request, name: str) -> str | None:
    value = request.cookies.get(name, "")
    return value if 20 <= len(value) <= 100 and value.isascii() else None


def _plain(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:200]


def _refusal_of(error: Exception) -> Refused:
    if isinstance(error, HTTPException):
        return Refused(error.status_code, "This page does not exist", "Go back to the application.")
    if isinstance(error, Transient):
        return Refused(503, "We can't do this just now", "Nothing is lost. Wait a minute, then load this page again.")
    structlog.get_logger("web").error("request.failed", exc_info=error)
    return Refused(500, "Something went wrong here", "Go back to the application and start again from there.")


def _show(pages: Environment, template: str, status: int, **values: Any) -> HTMLResponse:
    return HTMLResponse(pages.get_template(template).render(**values), status_code=status, headers=security_headers)
