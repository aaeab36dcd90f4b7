"""Whether a connection's access token can be used now, has to be refreshed first, or can't be had."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from models.clock import is_due
from models.crypto.secrets import Sealed
from models.gateway.problems import Problem, ProblemType
from models.oauth.connection import Connection, Status
from models.oauth.credential import Credential, is_presented
from models.oauth.refresh_policy import accepts_request

kept_back: Final = timedelta(seconds=30)
soon: Final = timedelta(seconds=5)
"""When to ask again if no one knows better."""
usable: Final = timedelta(seconds=5)
"""A token that lives for less is refreshed before a call."""

longest_unread: Final = timedelta(milliseconds=20)
"""A connection that was read longer ago is read again before its token is given: it may have been disconnected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A connection as the gateway sees it.

    credential: without its refresh token, which the gateway can't read; None if there is none.
    refresh_asked_at: when someone last asked for a refresh.
    is_refreshable: whether it has a refresh token.
    is_kept_back: whether its client's breaker is open.
    """

    connection: Connection
    credential: Credential | None
    refresh_asked_at: datetime | None = None
    is_refreshable: bool = False
    is_kept_back: bool = False

    @property
    def access_token(self) -> Sealed | None:
        return None if self.credential is None else self.credential.access_token


@dataclass(frozen=True, slots=True)
class Give:
    """The token can be used."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Make a refresh due, then wait for it."""


@dataclass(frozen=True, slots=True)
class Join:
    """Wait for the refresh that is due or under way."""


Plan = Give | Ask | Join | Problem


def plan_access(access: Access, wanted: timedelta, now: datetime, path_prefix: str = "") -> Plan:
    """Decide what to do for a token that lives for `wanted` from now on.

    A refresh for its sake is asked for once a minute; meanwhile the token is given for as long as it lives.
    """
    connection = access.connection
    if connection.status is not Status.active or access.access_token is None:
        return require_authorization(connection, path_prefix)
    left = None if connection.expires_at is None else connection.expires_at - now
    is_alive = left is None or left > timedelta()
    if left is None or (is_alive and left >= _reachable(access, wanted)):
        return Give()
    if not access.is_refreshable:
        return Give() if is_alive else require_authorization(connection, path_prefix)
    if is_under_way(access, now):
        return Join()
    hindrance = _find_hindrance(access)
    if hindrance is not None:
        return hindrance
    if is_due(connection.refresh_due_at, now):
        return Join()
    if accepts_request(access.refresh_asked_at, now):
        return Ask()
    return Give() if is_alive else _postponed(connection, now)


def judge_wait(access: Access, generation: int, now: datetime, path_prefix: str = "") -> Give | Problem | None:
    """Decide whether the wait for a token newer than `generation` is over; None if it is not."""
    connection = access.connection
    if connection.status is not Status.active:
        return require_authorization(connection, path_prefix)
    if connection.generation > generation:
        return Give()
    if is_under_way(access, now):
        return None
    hindrance = _find_hindrance(access)
    if hindrance is not None:
        return hindrance
    if is_due(connection.refresh_due_at, now):
        return None
    # It failed, or nothing can be refreshed.
    return _postponed(connection, now)


def require_authorization(connection: Connection, path_prefix: str = "") -> Problem:
    """Return the problem of a connection that ended: only its user can revive it."""
    reason = "it was disconnected" if connection.status is Status.disconnected else connection.revoked_reason
    return Problem(
        ProblemType.reauthorization_required,
        f"The connection can't be used any more: {reason or 'its access token has expired, and nothing refreshes it'}. "
        "Send the user to connect_path, with a connect link's token.",
        connect_path=connect_path_of(connection, path_prefix),
    )


def has_same_token(seen: Access, current: Access | None) -> bool:
    """Return whether the token that was seen is still the connection's, and may be given."""
    if current is None or current.connection.status is not Status.active:
        return False
    return current.connection.generation == seen.connection.generation


def connect_path_of(connection: Connection, path_prefix: str = "") -> str:
    """Return the path of a new connect link, without its token."""
    return f"{path_prefix}/auth/{connection.provider}"


def is_under_way(access: Access, now: datetime) -> bool:
    """Return whether a job refreshes it, or its refresh token was presented and no one knows yet what came of it."""
    credential = access.credential
    if credential is None or access.is_kept_back:
        return False
    is_leased = credential.lease_until is not None and credential.lease_until > now
    return is_leased or is_presented(credential, access.connection.generation)


def is_newer_coming(access: Access, generation: int, now: datetime) -> bool:
    """Return whether a newer token than that of `generation` is stored, or a refresh is due or under way."""
    connection = access.connection
    if connection.status is not Status.active:
        return False
    is_stored = connection.generation > generation
    return is_stored or is_under_way(access, now) or is_due(connection.refresh_due_at, now)


def _reachable(access: Access, wanted: timedelta) -> timedelta:
    """Return how long the token has to live: half of its whole life if no token lives for as long as is wanted."""
    credential, expires_at = access.credential, access.connection.expires_at
    if credential is None or credential.issued_at is None or expires_at is None:
        return wanted
    life = expires_at - credential.issued_at
    return wanted if wanted < life else life / 2


def _find_hindrance(access: Access) -> Problem | None:
    """Return why no refresh can leave."""
    if access.connection.problem in ("held", "refused"):
        text = "The provider refuses this connection's refresh token, and many others': it is being found out whether "
        return Problem(ProblemType.held, text + "they are revoked.", retry_after=kept_back)
    if access.is_kept_back:
        text = "The provider's token endpoint is out of order, rejects the client, or was paused by an operator."
        return Problem(ProblemType.provider_unavailable, text, retry_after=kept_back)
    return None


def _postponed(connection: Connection, now: datetime) -> Problem:
    due_at = connection.refresh_due_at
    retry_after = soon if due_at is None else min(max(due_at - now, timedelta(seconds=1)), timedelta(hours=1))
    return Problem(ProblemType.provider_unavailable, "The last refresh failed; it is repeated by itself.", retry_after)
