"""A connection's pair of tokens, sealed, with the lease and the intent that keep one from being spent twice."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from models.clock import is_due
from models.crypto.sealed_text import Place
from models.crypto.secrets import Sealed
from models.oauth.connection import Connection, Status

pause_between_forced = timedelta(minutes=10)
"""Longer than a run keeps retrying one list: an API that refuses every token fails that list before it forces another
refresh."""


@dataclass(frozen=True, slots=True)
class Credential:
    """The tokens of one generation and what is known about their use.

    connection_id: whose tokens these are.
    access_token, refresh_token: sealed; None if there is none, or none any more.
    issued_at, expires_at: of the access token; None if unknown.
    lease_owner, lease_until: the job that may refresh, and until when no other one may.
    presented_at: the intent, committed before the refresh token leaves; cleared if the answer proves it unspent.
    presented_generation: the generation whose refresh token was presented.
    presentations: how often it was presented without a clear outcome.
    answered_at: when the endpoint answered 503 to it, which probably means that it is unspent, and proves nothing.
    refused_generation: the last generation whose access token the API refused; None once the API accepts a token.
    refused_at: when that forced a refresh; None until the next presentation if one was on its way at the refusal.
    failures: refreshes in a row that failed and spent nothing.
    """

    connection_id: str
    access_token: Sealed | None
    refresh_token: Sealed | None
    issued_at: datetime | None = None
    expires_at: datetime | None = None
    lease_owner: str | None = None
    lease_until: datetime | None = None
    presented_at: datetime | None = None
    presented_generation: int | None = None
    presentations: int = 0
    answered_at: datetime | None = None
    refused_generation: int | None = None
    refused_at: datetime | None = None
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Present:
    """Present the refresh token: it is unspent and due."""


@dataclass(frozen=True, slots=True)
class Resolve:
    """Find out first what came of an earlier presentation; not before `at`, the server may still work on it."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Leave:
    """Do nothing, for the reason `why`; `until` is when to look again, if ever."""

    why: str
    until: datetime | None = None


def place_of_token(connection: Connection, field: str) -> Place:
    """Return the place that a token of the connection's generation is sealed to."""
    return Place("credential", connection.id, field, connection.generation)


RefreshPlan = Present | Resolve | Leave


def plan_refresh(
    connection: Connection, credential: Credential | None, now: datetime, settle: timedelta
) -> RefreshPlan:
    """Return what a refresh job may do now; `settle` after it was sent the provider is done with a request."""
    if connection.status is not Status.active:
        return Leave(f"connection is {connection.status}")
    if credential is None or credential.refresh_token is None:
        return Leave("no refresh token")
    # Race: two workers got a message for the same connection; the one without the lease leaves.
    if credential.lease_until is not None and credential.lease_until > now:
        return Leave("another worker holds the lease", credential.lease_until)
    # Race: the message waited in its queue while another one did its work.
    if not is_due(connection.refresh_due_at, now):
        return Leave("not due", connection.refresh_due_at)
    # Race: a worker died after it sent the token, or its answer was lost; the token may be spent.
    if is_presented(credential, connection.generation) and credential.presented_at is not None:
        return Resolve(credential.answered_at or credential.presented_at + settle)
    return Present()


def is_presented(credential: Credential, generation: int) -> bool:
    """Whether the refresh token of this generation was sent and its outcome is not known yet."""
    return credential.presented_at is not None and credential.presented_generation == generation


def kept_refresh_token(connection: Connection, credential: Credential | None, client_id: str) -> Sealed | None:
    """Return the refresh token that a new authorization by `client_id` leaves in use if it brings none of its own.

    Many providers issue one only at the first consent. None if there is none, if it belongs to another client, or if
    it may be spent.
    """
    if connection.status is not Status.active or connection.client_id != client_id or credential is None:
        return None
    return None if is_presented(credential, connection.generation) else credential.refresh_token


def lease(credential: Credential, owner: str, until: datetime) -> Credential:
    """Let no other job refresh this connection until `until`."""
    return replace(credential, lease_owner=owner, lease_until=until)


def release_lease(credential: Credential) -> Credential:
    """Let any job refresh this connection again."""
    return replace(credential, lease_owner=None, lease_until=None)


def present(credential: Credential, generation: int, now: datetime) -> Credential:
    """Note the intent: from its commit on, the refresh token of `generation` counts as presented.

    If the API refused the access token of this generation, this refresh is the one that the refusal forced.
    """
    is_forced = credential.refused_generation == generation
    return replace(
        credential,
        presented_at=now,
        presented_generation=generation,
        presentations=credential.presentations + 1,
        answered_at=None,
        refused_at=credential.refused_at or now if is_forced else credential.refused_at,
    )


def withdraw_presentation(credential: Credential, before: Credential) -> Credential:
    """Remove lease and intent of a presentation that spent nothing; `before` is the credential without it.

    The note of an earlier presentation whose outcome is still unknown comes back.
    """
    return replace(
        release_lease(credential),
        presented_at=before.presented_at,
        presented_generation=before.presented_generation,
        presentations=before.presentations,
        answered_at=before.answered_at,
    )


def forget_presentation(credential: Credential) -> Credential:
    """Remove the note that the refresh token was presented: it was not spent."""
    return replace(credential, presented_at=None, presented_generation=None, presentations=0, answered_at=None)


def note_unavailable(credential: Credential, now: datetime) -> Credential:
    """Note that the endpoint answered 503: it no longer works on the request, but may have spent the token."""
    return replace(release_lease(credential), answered_at=now)


def drop_tokens(credential: Credential) -> Credential:
    """Delete both tokens: the grant is dead, or counts as dead."""
    return replace(release_lease(credential), access_token=None, refresh_token=None)


def asks_for_refresh(connection: Connection, credential: Credential, refused_generation: int, now: datetime) -> bool:
    """Whether a 401 for a token of `refused_generation` forces a refresh: only for the current generation, once.

    If a forced refresh won a token a moment ago and that token is refused too, the API is at fault, not the grant.
    """
    if refused_generation != connection.generation or refused_generation == credential.refused_generation:
        return False
    return credential.refused_at is None or now - credential.refused_at >= pause_between_forced


def refuse_access(credential: Credential, generation: int, now: datetime) -> Credential:
    """Note that the API refused the access token of this generation, which forces a refresh.

    Race: a refresh may be on its way already. It left before the refusal and so does not answer it; the next
    presentation counts as forced, and sets `refused_at`.
    """
    forced_at = None if is_presented(credential, generation) else now
    return replace(credential, refused_generation=generation, refused_at=forced_at)


def accept_access(credential: Credential) -> Credential:
    """Note that the API accepted the access token: the next refusal may force a refresh again."""
    return replace(credential, refused_generation=None, refused_at=None)
