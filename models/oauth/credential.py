"""A connection's pair of tokens, sealed, with the lease and the intent that keep one from being spent twice."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from models.crypto.secrets import Sealed
from models.oauth.connection import Connection, Status

pause_between_forced = timedelta(minutes=10)
"""Longer than a run is patient with one list: what refuses every token is left before it forces the next."""


@dataclass(frozen=True, slots=True)
class Credential:
    """The tokens of one generation and what is known about their use.

    `presented_at` is the intent: committed before the refresh token of `presented_generation` leaves, cleared when the
    answer proves that it was not spent; `answered_at` is when the endpoint said to it that it could not (503), which
    is likely and no proof. `refused_generation` is the last one whose access token the API refused, so that a refresh
    was forced at `refused_at`; both are gone when it takes one. Where a refresh was under way already, `refused_at` is
    set by the next one to be presented: what left before a refusal is no answer to it.
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
    """The refresh token is unspent and due: present it."""


@dataclass(frozen=True, slots=True)
class Resolve:
    """It was presented before and no pair came of it: find out first. Not before `at`, the server may still work."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Leave:
    """Nothing to do here, and why; `until` is when to look again, if ever."""

    why: str
    until: datetime | None = None


RefreshPlan = Present | Resolve | Leave


def plan_refresh(
    connection: Connection, credential: Credential | None, now: datetime, settle: timedelta
) -> RefreshPlan:
    """What a refresh job may do with this credential now; `settle` after it was sent a request is over everywhere."""
    if connection.status is not Status.active:
        return Leave(f"connection is {connection.status}")
    if credential is None or credential.refresh_token is None:
        return Leave("no refresh token")
    if credential.lease_until is not None and credential.lease_until > now:
        return Leave("another worker holds the lease", credential.lease_until)
    if connection.refresh_due_at is None or connection.refresh_due_at > now:
        return Leave("not due", connection.refresh_due_at)
    if is_presented(credential, connection.generation) and credential.presented_at is not None:
        return Resolve(credential.answered_at or credential.presented_at + settle)
    return Present()


def is_presented(credential: Credential, generation: int) -> bool:
    """Whether the refresh token of this generation is on its way, or what came of it is unknown."""
    return credential.presented_at is not None and credential.presented_generation == generation


def forget_presentation(credential: Credential) -> Credential:
    """The refresh token was not spent: it is as good as new."""
    return replace(credential, presented_at=None, presented_generation=None, presentations=0, answered_at=None)


def answer(credential: Credential, now: datetime) -> Credential:
    """The endpoint could not (503): nobody works on the request any more, and its intent stays until that is sure."""
    return replace(credential, lease_owner=None, lease_until=None, answered_at=now)


def asks_for_refresh(connection: Connection, credential: Credential, refused_generation: int, now: datetime) -> bool:
    """Whether a 401 for a token of `refused_generation` is worth a forced refresh: only for the current one, once.

    A token won by a forced refresh a moment ago and refused again points at the API, not at the grant.
    """
    if refused_generation != connection.generation or refused_generation == credential.refused_generation:
        return False
    return credential.refused_at is None or now - credential.refused_at >= pause_between_forced
