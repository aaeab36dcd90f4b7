"""An authorization: one attempt of a user to connect an account, its steps, and how it ends."""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from models.crypto.sealed_text import Place
from models.crypto.secrets import Sealed
from models.journal import Note, Verb
from models.messaging.events import About, AuthorizationFailed, Fact, FailureReason
from models.oauth.token_response import Evidence

lifetime = timedelta(minutes=10)
usual_code_seconds = 600
"""The life of a code, which RFC 6749 §4.1.2 recommends at most; a profile may say otherwise."""
give_up_after = timedelta(hours=24)
exchange_lease = timedelta(seconds=60)

denial = "access_denied"
outages = frozenset({"server_error", "temporarily_unavailable"})
usual_denials = frozenset(
    {
        "access_declined",
        "authorization_denied",
        "cancelled",
        "canceled",
        "consent_denied",
        "declined",
        "denied",
        "user_canceled",
        "user_cancelled",
        "user_canceled_authorize",
        "user_cancelled_authorize",
        "user_canceled_login",
        "user_cancelled_login",
        "user_declined",
        "user_denied",
    }
)
"""What well-known servers say instead of `access_denied` (RFC 6749 §4.1.2.1) if the user does not allow access."""


class Confirmation(StrEnum):
    """Who says that the browser belongs to the link's user: see `models/oauth/confirmation.py`.

    application: it confirms the code before that leaves. page: a person reads our page and clicks. off: no one does.
    """

    application = "application"
    page = "page"
    off = "off"


class Step(StrEnum):
    """The steps of an authorization.

    started (redirected to the provider) → received (code stored) → granted (tokens stored, account not yet
    known) → connected; or denied, or failed.
    """

    started = "started"
    received = "received"
    granted = "granted"
    connected = "connected"
    denied = "denied"
    failed = "failed"


open_steps = (Step.started, Step.received, Step.granted)
failed_steps = (Step.denied, Step.failed)


@dataclass(frozen=True, slots=True)
class Authorization:
    """One attempt to connect an account. State and browser are hashes; verifier, code and tokens are sealed.

    challenge: what the provider was sent of the verifier, which is no secret; None without PKCE.
    code_seconds: how long after its arrival the code may be presented, by the provider's profile.
    `confirmation` is who confirms it, `confirmation_hash` the hash of the value that the application has to bring, and
    `confirmed_at` when the application confirmed, or the person clicked.
    """

    id: str
    provider: str
    client_id: str
    user_id: str
    redirect_uri: str
    step: Step
    state_hash: str
    browser_hash: str
    created_at: datetime
    expires_at: datetime
    verifier: Sealed | None = None
    challenge: str | None = None
    code: Sealed | None = None
    tokens: Sealed | None = None
    return_to: str | None = None
    team_ids: tuple[int, ...] = ()
    target_connection_id: str | None = None
    code_received_at: datetime | None = None
    code_seconds: int = usual_code_seconds
    due_at: datetime | None = None
    lease_owner: str | None = None
    lease_until: datetime | None = None
    presented_at: datetime | None = None
    attempts: int = 0
    reason: str | None = None
    description: str | None = None
    connection_id: str | None = None
    confirmation: Confirmation = Confirmation.off
    confirmation_hash: str | None = None
    confirmed_at: datetime | None = None

    @property
    def about(self) -> About:
        return About(self.provider, self.user_id, other_subject=f"authorization/{self.id}")


@dataclass(frozen=True, slots=True)
class AuthorizationChange:
    """An authorization's new state, with the events and notes that are written in the same transaction."""

    authorization: Authorization
    facts: tuple[Fact, ...] = ()
    notes: tuple[Note, ...] = ()


def place_of(authorization_id: str, field: str) -> Place:
    """Return the place that an authorization's secrets are sealed to."""
    return Place("authorization", authorization_id, field)


def awaits_user(authorization: Authorization, now: datetime) -> bool:
    """Return whether the provider's redirect may still use it: once, and only in time."""
    return authorization.step is Step.started and authorization.expires_at > now


def awaits_click(authorization: Authorization) -> bool:
    """Return whether our page has been shown, and no one has clicked on it yet."""
    is_open = authorization.step is Step.started and authorization.confirmed_at is None
    return is_open and authorization.confirmation is Confirmation.page


def awaits_application(authorization: Authorization) -> bool:
    """Return whether its code must not leave yet: the application has not confirmed whose browser brought it."""
    is_kept = authorization.step is Step.received and authorization.confirmed_at is None
    return is_kept and authorization.confirmation is Confirmation.application


def came_too_late(authorization: Authorization, now: datetime) -> bool:
    """Return whether it ended, or is about to end, because the user did not come back in time."""
    if authorization.step is Step.started:
        return authorization.expires_at <= now
    return authorization.code_received_at is None and authorization.reason == "expired"


def is_put_off(authorization: Authorization, now: datetime) -> bool:
    """Return whether its next attempt is not yet due: an answer may still come, or the provider is busy.

    A code that has just come or was just confirmed is due at once, however the clocks of two machines differ.
    """
    due = authorization.due_at
    at_once = (authorization.code_received_at, authorization.confirmed_at)
    return due is not None and due > now and due not in at_once


def end_of_code(authorization: Authorization) -> datetime:
    """Return when its code is too old to be presented."""
    received_at = authorization.code_received_at or authorization.created_at
    return received_at + timedelta(seconds=authorization.code_seconds)


def receive_code(
    authorization: Authorization,
    code: Sealed,
    now: datetime,
    confirmation_hash: str | None = None,
    code_seconds: int = usual_code_seconds,
) -> Authorization:
    """Return it with its sealed code, due for the exchange at once and valid for `code_seconds`. The state is used up.

    A code that waits for the application is due when its life ends: the sweep then ends what was not confirmed.
    """
    received = replace(
        authorization, step=Step.received, code=code, code_received_at=now, code_seconds=code_seconds, due_at=now
    )
    if not awaits_application(received):
        return received
    return replace(received, confirmation_hash=confirmation_hash, due_at=end_of_code(received))


def grant(authorization: Authorization, due_at: datetime) -> Authorization:
    """Return it without the code that was exchanged; its tokens are sealed into it when it is saved.

    The sweep sends no one else on with it before `due_at`.
    """
    return replace(
        authorization,
        step=Step.granted,
        code=None,
        verifier=None,
        due_at=due_at,
        attempts=0,
        lease_until=None,
        reason=None,
        description=None,
    )


def put_off(authorization: Authorization, until: datetime) -> Authorization:
    """Return it without its lease, due again at `until`."""
    return replace(authorization, lease_owner=None, lease_until=None, due_at=until)


def hold_up(authorization: Authorization, why: str, reason: str = "provider_unavailable") -> Authorization:
    """Return an open authorization with why its last attempt failed; its next step clears that."""
    return replace(authorization, reason=reason, description=why)


def keep_waiting(
    authorization: Authorization, reason: str, why: str, verb: Verb, until: datetime
) -> AuthorizationChange:
    """Put it off because its code cannot be presented now; it is noted once, however often that is found."""
    is_known = (authorization.reason, authorization.description) == (reason, why)
    held_up = hold_up(put_off(authorization, until), why, reason)
    return AuthorizationChange(held_up, notes=() if is_known else (Note(verb, {"why": why}),))


def end(authorization: Authorization, step: Step) -> Authorization:
    """Return it ended at `step`: no secret stays, and nothing is due."""
    return replace(
        authorization,
        step=step,
        code=None,
        verifier=None,
        tokens=None,
        due_at=None,
        lease_owner=None,
        lease_until=None,
    )


def fail(
    authorization: Authorization, reason: FailureReason, description: str, evidence: Evidence | None = None
) -> AuthorizationChange:
    """End it as failed, with its event and its note."""
    failed = replace(end(authorization, Step.failed), reason=reason, description=description)
    fact = AuthorizationFailed(authorization.id, reason, description)
    return AuthorizationChange(failed, (fact,), (note_of(Verb(f"failed.{reason}"), evidence or Evidence()),))


def end_by_error(
    authorization: Authorization, error: str, description: str, aliases: Mapping[str, str]
) -> AuthorizationChange:
    """End it by the error in the provider's redirect (RFC 6749 §4.1.2.1).

    `aliases` maps the provider's own names to those of the RFC. A denial is the user's, an outage the provider's;
    anything else is trouble with what we asked for.
    """
    reason = _reason_of(aliases.get(error, error))
    denied = reason == "denied"
    text = _printable(description) or ("the user said no" if denied else f"the provider answered {_printable(error)}")
    return _end_as(authorization, reason, text)


def comes_without_state(error: str, aliases: Mapping[str, str]) -> bool:
    """Return whether a provider sends this error without `state`: old Laravel Passports refuse a scope like that."""
    return aliases.get(error, error) == "invalid_scope"


def end_by_stateless_error(authorization: Authorization) -> AuthorizationChange:
    """End it by an error without `state`, which anyone may have sent the browser with: its words are not repeated."""
    return _end_as(authorization, "client_rejected", "the provider answered invalid_scope")


def is_issuer(expected: str, given: str) -> bool:
    """Return whether a redirect comes from the expected issuer (RFC 9207 §2.4); none is expected if that is empty.

    A provider that has an issuer names it in every redirect, so that none of another server passes for its own.
    """
    return not expected or given == expected


def _end_as(authorization: Authorization, reason: FailureReason, text: str) -> AuthorizationChange:
    denied = reason == "denied"
    ended = replace(end(authorization, Step.denied if denied else Step.failed), reason=reason, description=text)
    return AuthorizationChange(ended, (AuthorizationFailed(authorization.id, reason, text),))


def _reason_of(error: str) -> FailureReason:
    if error == denial or error.lower() in usual_denials:
        return "denied"
    return "provider_unavailable" if error in outages else "client_rejected"


def note_of(verb: Verb, evidence: Evidence) -> Note:
    return Note(verb, {"status": evidence.status, "error": evidence.error, "hint": evidence.hint})


def hash_of(value: str) -> str:
    """Return the SHA-256 in hex, stored in place of a state, a browser binding or a link's `jti`."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


def state_of(binding: str) -> str:
    """Return the state of the flow whose browser has this secret in its cookie; the state does not reveal the secret.

    So a browser that follows its link again can be sent to the provider with the same state, which is not stored.
    """
    return urlsafe_b64encode(hashlib.sha256(f"state\n{binding}".encode()).digest()).rstrip(b"=").decode()


def flow_of(state_hash: str) -> str:
    """Return the short name of a flow, which is part of its cookie's name."""
    return state_hash[:32]


def challenge_of(verifier: str) -> str:
    """Return the S256 code challenge (RFC 7636 §4.2)."""
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def describe_result(authorization: Authorization) -> dict[str, str | None]:
    """Return what the result page and its JSON form show: status, reason and connection."""
    status = authorization.step.value if authorization.step not in open_steps else "pending"
    return {
        "status": status,
        "reason": None if authorization.step in open_steps else authorization.reason,
        "connection_id": authorization.connection_id,
    }


def _printable(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:200]
