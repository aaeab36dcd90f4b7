"""The token endpoint: the answers of Passport 12 and 13 to a code, a refresh token and a revocation."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Generator
from typing import Any, Literal

from sandbox.grants import AccessToken, Client, Code, Family, Grants, Presentation, RefreshToken
from sandbox.http import Answer, Request, answer_json
from sandbox.oauth_errors import (
    RefusalError,
    refuse_client,
    refuse_code,
    refuse_grant_type,
    refuse_refresh_token,
    refuse_request,
    refuse_scope,
    refuse_unauthorized_client,
    refuse_verifier,
)
from sandbox.settings import Settings

KNOWN_SCOPES = frozenset(
    {"*", "documents.read", "documents.write", "templates.read", "recipients.read", "invoices.read"}
)

UNREADABLE_CODE = {
    12: "Cannot decrypt the authorization code",
    13: "Cannot validate the provided authorization code",
}
WORK_SECONDS = 0.05
NO_USER = 0

Pause = Literal["checked", "middle"]
Steps = Generator[Pause, None, Answer]

_VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}")


def identify_presentation(
    grants: Grants, fields: dict[str, Any], now: float
) -> tuple[Presentation | None, dict[str, str]]:
    """Record that a code or refresh token arrived; return the fields that faults can match."""
    facts = {"grant_type": read_text(fields, "grant_type") or ""}
    client_id = read_text(fields, "client_id")
    if client_id:
        facts["client_id"] = client_id
    refresh = grants.recall_refresh(read_text(fields, "refresh_token") or "")
    code = grants.recall_code(read_text(fields, "code") or "")
    presentation: Presentation | None = None
    if facts["grant_type"] == "refresh_token" and refresh is not None:
        presentation = Presentation(now)
        refresh.presentations.append(presentation)
        facts |= {"user_id": str(refresh.family.user_id), "client_id": refresh.family.client_id}
    elif facts["grant_type"] == "authorization_code" and code is not None:
        presentation = Presentation(now)
        code.presentations.append(presentation)
        facts |= {"user_id": str(code.user_id), "client_id": code.client_id}
    return presentation, facts


def grant_tokens(
    grants: Grants, settings: Settings, request: Request, seen: Presentation, now: Callable[[], float]
) -> Steps:
    """Run one grant, with a step after the check and one after the old pair is used up; record the outcome."""
    try:
        match read_text(request.fields, "grant_type"):
            case "refresh_token":
                return (yield from _refresh(grants, settings, request, seen, now))
            case "authorization_code":
                return (yield from _exchange(grants, settings, request, seen, now))
            case "client_credentials":
                return _grant_client(grants, settings, request, now())
            case _:
                raise refuse_grant_type()
    except RefusalError as refusal:
        seen.outcome = refusal.outcome
        return refusal.answer(settings.passport)


def _refresh(
    grants: Grants, settings: Settings, request: Request, seen: Presentation, now: Callable[[], float]
) -> Steps:
    client = _authenticate(grants, settings, request)
    value = _require(request.fields, "refresh_token", settings.passport)
    if grants.find_code(value) is not None:
        raise refuse_request("refresh_token", "Authorization code malformed")
    token = grants.find_refresh(value)
    token = _check_refresh_token(token, client, settings, now())
    asked = read_text(request.fields, "scope")
    for name in (asked or "").split():
        if name not in KNOWN_SCOPES or name not in token.family.granted_scope:
            raise refuse_scope(name)
    yield "checked"
    token.access.revoked = True
    token.revoked = True
    seen.outcome = "burnt" if token.spent_at is None else "reused"
    token.spent_at = now() if token.spent_at is None else token.spent_at
    yield "middle"
    seen.outcome = "rotated" if seen.outcome == "burnt" else "rotated_again"
    return _answer_pair(grants, settings, token.family, token.generation + 1, now())


def _check_refresh_token(token: RefreshToken | None, client: Client, settings: Settings, now: float) -> RefreshToken:
    generation = settings.passport
    if token is None:
        raise refuse_refresh_token("unreadable", "Cannot decrypt the refresh token", generation)
    if token.family.client_id != client.id:
        raise refuse_refresh_token("other_client", "Token is not linked to client", generation)
    if now >= token.expires_at:
        raise refuse_refresh_token("expired", "Token has expired", generation)
    if not token.revoked:
        return token
    reused = token.spent_at is not None
    family_alive = token.family.revoked_at is None
    if reused and family_alive and settings.refresh_reuse == "grace":
        if now - (token.spent_at or 0) <= settings.grace_seconds:
            return token
        token.family.revoke(now)
    if reused and family_alive and settings.refresh_reuse == "family_revoked":
        token.family.revoke(now)
    raise refuse_refresh_token("reused" if reused else "revoked", "Token has been revoked", generation)


def _exchange(
    grants: Grants, settings: Settings, request: Request, seen: Presentation, now: Callable[[], float]
) -> Steps:
    client = _authenticate(grants, settings, request)
    value = _require(request.fields, "code", settings.passport)
    if grants.find_refresh(value) is not None:
        raise refuse_request("code", "Authorization code malformed")
    code = _check_code(grants.find_code(value), client, settings, request, now())
    _check_verifier(code, read_text(request.fields, "code_verifier"))
    yield "checked"
    code.used = True
    seen.outcome = "burnt"
    yield "middle"
    seen.outcome = "exchanged"
    family = grants.open_family(client.id, code.user_id, code.scope)
    return _answer_pair(grants, settings, family, 1, now())


def _check_code(code: Code | None, client: Client, settings: Settings, request: Request, now: float) -> Code:
    generation = settings.passport
    if code is None:
        raise refuse_code("unreadable", UNREADABLE_CODE[generation], generation)
    if now >= code.expires_at:
        raise refuse_code("expired", "Authorization code has expired", generation)
    if code.used:
        raise refuse_code("reused", "Authorization code has been revoked", generation)
    if code.client_id != client.id:
        raise refuse_request("code", "Authorization code was not issued to this client")
    redirect_uri = read_text(request.fields, "redirect_uri")
    if redirect_uri is None:
        raise refuse_request("redirect_uri")
    if redirect_uri != code.redirect_uri:
        raise refuse_request("redirect_uri", "Invalid redirect URI")
    return code


def _check_verifier(code: Code, verifier: str | None) -> None:
    """RFC 7636 section 4.6; a verifier without a challenge is a downgrade and refused as well."""
    if code.challenge is None:
        if verifier is not None:
            raise refuse_request("code_challenge", "code_verifier received when no code_challenge is present")
        return
    if verifier is None:
        raise refuse_request("code_verifier")
    if _VERIFIER.fullmatch(verifier) is None:
        raise refuse_request("code_verifier", "Code Verifier must follow the specifications of RFC-7636.")
    sent = verifier
    if code.challenge_method == "S256":
        hashed = hashlib.sha256(verifier.encode()).digest()
        sent = base64.urlsafe_b64encode(hashed).rstrip(b"=").decode()
    if not hmac.compare_digest(sent, code.challenge):
        raise refuse_verifier()


def _answer_pair(grants: Grants, settings: Settings, family: Family, generation: int, now: float) -> Answer:
    pair = grants.issue_pair(family, generation, now, settings.access_ttl, settings.refresh_ttl)
    tokens = {"access_token": pair.access_value, "refresh_token": pair.refresh_value}
    return _answer_tokens(pair.access, settings.access_ttl, tokens)


def _answer_tokens(access: AccessToken, ttl: int, tokens: dict[str, str]) -> Answer:
    """Whole seconds are told, counted when the answer is written: now and then one less than configured."""
    left = int(access.issued_at + ttl) - int(access.issued_at + WORK_SECONDS)
    answer = answer_json(
        200,
        {"token_type": "Bearer", "expires_in": max(left, 0), **tokens},
        {"pragma": "no-cache", "cache-control": "no-store, private"},
    )
    answer.content_type = "application/json; charset=UTF-8"
    return answer


def _grant_client(grants: Grants, settings: Settings, request: Request, now: float) -> Answer:
    """Give an access token to the client itself, which no user's data answers to; 13 binds a client to its grants."""
    client = _authenticate(grants, settings, request)
    if settings.passport >= 13:
        raise refuse_unauthorized_client()
    access, value = grants.issue_access(grants.open_family(client.id, NO_USER, ()), now, settings.access_ttl)
    return _answer_tokens(access, settings.access_ttl, {"access_token": value})


def _require(fields: dict[str, Any], name: str, generation: int) -> str:
    """Return a field that has to be there: a text on 12, anything but a list or an object on 13."""
    value = read_text(fields, name)
    if value is None or _is_wrong_type(fields, name, generation):
        raise refuse_request(name)
    return value


def _is_wrong_type(fields: dict[str, Any], name: str, generation: int) -> bool:
    allowed = str if generation == 12 else str | int | float
    return fields.get(name) is not None and not isinstance(fields[name], allowed)


def revoke_token(grants: Grants, settings: Settings, request: Request, now: float) -> Answer:
    """End the whole grant of a token (RFC 7009); an unknown token is not an error."""
    try:
        client = _authenticate(grants, settings, request)
        value = read_text(request.fields, "token")
        if value is None:
            raise refuse_request("token")
    except RefusalError as refusal:
        return refusal.answer(settings.passport)
    token = grants.find_refresh(value) or grants.find_access(value)
    if token is not None and token.family.client_id == client.id:
        token.family.revoke(now)
    return Answer(200)


def _authenticate(grants: Grants, settings: Settings, request: Request) -> Client:
    """Return the client by body or HTTP Basic (RFC 6749 section 2.3.1); the body has priority."""
    basic_id, basic_secret = _read_basic(request.headers.get("authorization", ""))
    client_id = read_text(request.fields, "client_id") or basic_id
    secret = read_text(request.fields, "client_secret") or basic_secret
    if client_id is None:
        raise refuse_request("client_id")
    if _is_wrong_type(request.fields, "client_secret", settings.passport):
        raise refuse_request("client_secret")
    client = grants.clients.get(client_id)
    sent_basic = "authorization" in request.headers
    if client is not None and secret is None and settings.passport >= 13:
        raise refuse_request("client_secret")
    if client is None or secret is None:
        raise refuse_client(sent_basic=sent_basic)
    if not hmac.compare_digest(secret.encode(), client.secret.encode()):
        raise refuse_client(sent_basic=sent_basic)
    redirect_uri = read_text(request.fields, "redirect_uri")
    if settings.passport == 12 and redirect_uri is not None and redirect_uri not in client.redirect_uris:
        raise refuse_client(sent_basic=sent_basic)
    return client


def _read_basic(header: str) -> tuple[str | None, str | None]:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None, None
    try:
        user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None, None
    return (user, password) if colon else (None, None)


def read_text(fields: dict[str, Any], name: str) -> str | None:
    """Return a field as text; Laravel turns the empty string into null."""
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value).strip() or None
