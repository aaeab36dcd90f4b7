"""The authorize endpoint: login, consent page, and the redirect with the user's decision."""

import re
from dataclasses import dataclass
from html import escape
from urllib.parse import parse_qsl, urlencode, urlsplit

from sandbox.grants import Client
from sandbox.html import draw_error, draw_page
from sandbox.http import Answer, Request, answer_html, redirect
from sandbox.oauth_errors import DENIED, RefusalError, refuse_client, refuse_grant_type, refuse_request, refuse_scope
from sandbox.passport import KNOWN_SCOPES
from sandbox.state import SandboxState

SESSION_COOKIE = "sandbox_session"
LISTED_USERS = 50
NEEDED = {
    "login_required": "The authorization server requires end-user authentication.",
    "consent_required": "The authorization server requires end-user consent.",
}

_CHALLENGE = re.compile(r"[A-Za-z0-9\-._~]{43,128}")


@dataclass(frozen=True, slots=True)
class Asked:
    """A valid authorization request."""

    client: Client
    redirect_uri: str
    scope: tuple[str, ...]
    state: str | None
    challenge: str | None
    challenge_method: str
    prompt: str


def read_request(sandbox: SandboxState, query: dict[str, str]) -> Asked | Answer:
    """Return the request, or the error or redirect that it gets (RFC 6749 section 4.1.2.1)."""
    passport = sandbox.settings.passport
    if query.get("response_type") != "code" or not query.get("client_id"):
        return refuse_grant_type().answer(passport)
    client = sandbox.grants.clients.get(query["client_id"])
    if client is None:
        return refuse_client(sent_basic=False).answer(passport)
    redirect_uri = query.get("redirect_uri") or (client.redirect_uris[0] if len(client.redirect_uris) == 1 else "")
    if redirect_uri not in client.redirect_uris:
        return refuse_client(sent_basic=False).answer(passport)
    challenge = query.get("code_challenge") or None
    method = query.get("code_challenge_method") or "plain"
    if challenge is not None and (method not in ("S256", "plain") or not _CHALLENGE.fullmatch(challenge)):
        return refuse_request("code_challenge").answer(passport)
    state = query.get("state") or None
    scope = tuple(sorted(set(query.get("scope", "").split())))
    unknown = next((name for name in scope if name not in KNOWN_SCOPES), None)
    if unknown is not None:
        kept = state if passport >= 13 else None
        return redirect(_name_error(redirect_uri, kept, refuse_scope(unknown), passport))
    return Asked(client, redirect_uri, scope, state, challenge, method, query.get("prompt", ""))


def find_user_id(sandbox: SandboxState, request: Request) -> int | None:
    """Return the id of the logged-in user, by the session cookie."""
    return sandbox.sessions.get(request.cookies.get(SESSION_COOKIE, ""))


def answer_authorize(sandbox: SandboxState, request: Request) -> Answer:
    """Show the consent page on GET, unless it can be skipped; decide on POST."""
    asked = read_request(sandbox, request.query)
    if isinstance(asked, Answer):
        return asked
    user_id = find_user_id(sandbox, request)
    if user_id is None or asked.prompt == "login":
        if asked.prompt == "none":
            return redirect(_refuse_silence(sandbox, asked, "login_required", "Unauthenticated"))
        return answer_html(200, _draw_login(sandbox, f"/oauth/authorize?{request.query_string}", asked))
    if request.method == "POST":
        return redirect(decide(sandbox, asked, user_id, allow=request.fields.get("decision") == "allow"))
    now = sandbox.clock.now()
    known = sandbox.grants.has_live_token(user_id, asked.client.id, asked.scope, now)
    if known and asked.prompt != "consent":
        return redirect(decide(sandbox, asked, user_id, allow=True))
    if asked.prompt == "none":
        return redirect(_refuse_silence(sandbox, asked, "consent_required", "The user denied the request"))
    return answer_html(200, _draw_consent(sandbox, request, asked, user_id))


def decide(sandbox: SandboxState, asked: Asked, user_id: int, *, allow: bool) -> str:
    """Return the redirect's URL: with a code if the user allows access, else with `access_denied`."""
    if not allow:
        return _deny(sandbox, asked, "The user denied the request")
    code = sandbox.grants.issue_code(
        asked.client.id,
        user_id,
        redirect_uri=asked.redirect_uri,
        scope=asked.scope,
        pkce=(asked.challenge, asked.challenge_method),
        now=sandbox.clock.now(),
    )
    return _extend(asked.redirect_uri, {"code": code} | ({"state": asked.state} if asked.state else {}))


def authorize_as(sandbox: SandboxState, url: str, user_id: int, *, allow: bool) -> str:
    """Act as a logged-in user on the consent page of `url`. Raises ValueError if it is an error page."""
    asked = read_request(sandbox, dict(parse_qsl(urlsplit(url).query, keep_blank_values=True)))
    if isinstance(asked, Answer):
        if asked.status == 302:
            return asked.headers["location"]
        raise ValueError(f"the authorize page answers {asked.status}: unknown client, redirect URI or request")
    return decide(sandbox, asked, user_id, allow=allow)


def answer_login(sandbox: SandboxState, request: Request) -> Answer:
    """Show the list of users to log in as; POST logs in and redirects to the original page."""
    if request.method != "POST":
        return answer_html(200, _draw_login(sandbox, "/login", None))
    chosen = str(request.fields.get("user_id", ""))
    if not chosen.isdecimal() or int(chosen) not in sandbox.directory.users:
        return _refuse(404, "Unknown user", "No such user lives in this sandbox.")
    intended = urlsplit(str(request.fields.get("intended", "")))
    pairs = [pair for pair in parse_qsl(intended.query, keep_blank_values=True) if pair != ("prompt", "login")]
    target = f"{intended.path}?{urlencode(pairs)}" if intended.path == "/oauth/authorize" else "/login"
    cookie = f"{SESSION_COOKIE}={sandbox.log_in(int(chosen))}; Path=/; HttpOnly; SameSite=Lax"
    return redirect(target, headers={"set-cookie": cookie})


def answer_logout(sandbox: SandboxState, request: Request) -> Answer:
    sandbox.sessions.pop(request.cookies.get(SESSION_COOKIE, ""), None)
    target = request.fields.get("intended", "")
    to_authorize = isinstance(target, str) and target.startswith("/oauth/authorize?")
    return redirect(
        target if to_authorize else "/login", headers={"set-cookie": f"{SESSION_COOKIE}=; Path=/; Max-Age=0"}
    )


def _refuse(status: int, title: str, text: str) -> Answer:
    return answer_html(status, draw_error(title, text))


def _name_error(redirect_uri: str, state: str | None, refusal: RefusalError, passport: int) -> str:
    return _extend(redirect_uri, ({"state": state} if state else {}) | refusal.payload(passport))


def _deny(sandbox: SandboxState, asked: Asked, hint: str) -> str:
    denied = RefusalError("denied", 401, "access_denied", DENIED, hint)
    return _name_error(asked.redirect_uri, asked.state, denied, sandbox.settings.passport)


def _refuse_silence(sandbox: SandboxState, asked: Asked, error: str, hint: str) -> str:
    """Answer `prompt=none` if a page would be needed: 12 denies, 13 names what is missing."""
    if sandbox.settings.passport == 12:
        return _deny(sandbox, asked, hint)
    refusal = RefusalError(error, 401, error, NEEDED[error])
    return _name_error(asked.redirect_uri, asked.state, refusal, sandbox.settings.passport)


def _extend(uri: str, parameters: dict[str, str]) -> str:
    return f"{uri}{'&' if '?' in uri else '?'}{urlencode(parameters)}"


def _draw_login(sandbox: SandboxState, intended: str, asked: Asked | None) -> str:
    why = (
        f"<p><b>{escape(asked.client.name)}</b> wants to connect. Who are you?</p>"
        if asked is not None
        else "<p>Who are you?</p>"
    )
    users = list(sandbox.directory.users.values())
    buttons = "".join(
        f'<button class="full" id="login-{user.id}" name="user_id" value="{user.id}">{escape(user.name)} '
        f"<span class=soft>{escape(user.email)} · {user.plan} · {len(user.desk.documents)} documents</span></button>"
        for user in users[:LISTED_USERS]
    )
    more = f"<p class=soft>… and {len(users) - LISTED_USERS} more.</p>" if len(users) > LISTED_USERS else ""
    return draw_page(
        "Log in to BreezeDoc (sandbox)",
        f'<div class="card"><h1>Log in to BreezeDoc</h1>{why}'
        f'<form method="post" action="/login"><input type="hidden" name="intended" value="{escape(intended)}">'
        f"{buttons}</form>{more}</div><p class=soft>A sandbox: no password, no real data.</p>",
    )


def _draw_consent(sandbox: SandboxState, request: Request, asked: Asked, user_id: int) -> str:
    user = sandbox.directory.users[user_id]
    here = escape(f"/oauth/authorize?{request.query_string}")
    names = [name for name in asked.scope if name != "*"]
    wants = ", ".join(escape(name) for name in names) or "your account, documents, templates, recipients and invoices"
    return draw_page(
        f"Connect {asked.client.name}",
        f'<div class="card"><h1>{escape(asked.client.name)} wants access to your BreezeDoc account</h1>'
        f"<p>It will be able to read {wants}.</p>"
        f'<form method="post" action="{here}" class="choice">'
        '<button id="deny" name="decision" value="deny">Deny</button>'
        '<button id="allow" class="go" name="decision" value="allow">Allow</button></form></div>'
        f'<form method="post" action="/logout" class="row"><span class=soft>Logged in as {escape(user.name)}, '
        f'{escape(user.email)}</span><input type="hidden" name="intended" value="{here}">'
        '<button id="switch">Log in as another user</button></form>',
    )
