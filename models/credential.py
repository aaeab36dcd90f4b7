"""A connection's pair of tokens, sealed, with the lease and the intent that keep one from being spent twice."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from models.connection import Connection, Status
from models.secrets import Sealed

token_deadline = timedelta(seconds=20)
lease_length = timedelta(seconds=30)
settle_time = timedelta(seconds=60)
pause_between_forced = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Credential:
    """The tokens of one generation and what is known about their use.

    `presented_at` is the intent: committed before the refresh token of `presented_generation` leaves, cleared when the
    answer proves that it was not spent. `refused_generation` is the last one whose access token the API refused, so
    that a refresh was forced at `refused_at`.
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
    refused_generation: int | None = None
    refused_at: datetime | None = None
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Present:
    """The refresh token is unspent and due: present it."""


@dataclass(frozen=True, slots=True)
class Resolve:
    """It was presented before and no answer was kept: find out first. Not before `at`, the server may still work."""

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
    """What a refresh job may do with this credential now; `settle` is how long a server works on after we gave up."""
    if connection.status is not Status.active:
        return Leave(f"connection is {connection.status}")
    if credential is None or credential.refresh_token is None:
        return Leave("no refresh token")
    if credential.lease_until is not None and credential.lease_until > now:
        return Leave("another worker holds the lease", credential.lease_until)
    if connection.refresh_due_at is None or connection.refresh_due_at > now:
        return Leave("not due", connection.refresh_due_at)
    if credential.presented_at is not None and credential.presented_generation == connection.generation:
        return Resolve(credential.presented_at + settle)
    return Present()


def asks_for_refresh(connection: Connection, credential: Credential, refused_generation: int, now: datetime) -> bool:
    """Whether a 401 for a token of `refused_generation` is worth a forced refresh: only for the current one, once.

    A token won by a forced refresh a moment ago and refused again points at the API, not at the grant.
    """
    if refused_generation != connection.generation or refused_generation == credential.refused_generation:
        return False
    return credential.refused_at is None or now - credential.refused_at >= pause_between_forced
