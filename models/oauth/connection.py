"""A connection and its transitions: the only place that changes a status; each returns the new state and its events."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from models.messaging.events import (
    About,
    AccessLimited,
    AccessRestored,
    ConnectionAuthorized,
    ConnectionDisconnected,
    ConnectionRefreshed,
    Detector,
    Fact,
    ReauthorizationRequired,
    RevokedReason,
)
from models.oauth.refresh_policy import refresh_due_at, spread

personal_client = "personal-access-token"
"""In a connection's `client_id`: it has no OAuth client, nothing refreshes it, and its 401 is final."""

clocks_differ = timedelta(seconds=30)
"""How far the clocks of two machines may differ, an application's included."""

answer_delay = timedelta(seconds=5)
"""How long a token's answer may have been on its way to us, while its time ran."""


class Status(StrEnum):
    """Whether a connection can be used: the provider's side ends it as revoked, ours as disconnected."""

    active = "active"
    revoked = "revoked"
    disconnected = "disconnected"


@dataclass(frozen=True, slots=True)
class Connection:
    """One user's account at one provider. `generation` counts the pairs of tokens it has had: 1, 2, 3 and so on.

    `sync_due_at` is when it is next read at all, `lists_due_at` when more of it than the account, `full_due_at` when
    all of it; `sync_pace` is the time between two readings of its lists, in intervals (see `cadence.py`).
    """

    id: str
    user_id: str
    provider: str
    client_id: str
    account_id: str
    status: Status
    created_at: datetime
    email: str | None = None
    problem: str | None = None
    scope: str | None = None
    team_ids: tuple[int, ...] = ()
    generation: int = 0
    expires_at: datetime | None = None
    refresh_due_at: datetime | None = None
    sync_due_at: datetime | None = None
    sync_requested: bool = False
    sync_pace: float = 1.0
    lists_due_at: datetime | None = None
    full_due_at: datetime | None = None
    last_synced_at: datetime | None = None
    revoked_at: datetime | None = None
    revoked_reason: str | None = None
    access_limited: bool = False

    @property
    def about(self) -> About:
        return About(self.provider, self.user_id, self.id)


@dataclass(frozen=True, slots=True)
class NewPair:
    """The part of a new pair of tokens that is no secret; without a refresh token no refresh is ever due."""

    issued_at: datetime
    expires_in: timedelta | None
    scope: str | None
    refreshable: bool = True

    @property
    def expires_at(self) -> datetime | None:
        return None if self.expires_in is None else self.issued_at + self.expires_in


Transition = tuple[Connection, tuple[Fact, ...]]


def authorize(
    connection: Connection,
    pair: NewPair,
    client_id: str,
    email: str | None,
    team_ids: tuple[int, ...],
    reauthorized: bool,
) -> Transition:
    """The user authorized, for the first time or again: a new generation, due for a sync at once."""
    held = replace(
        _hold(connection, pair),
        status=Status.active,
        client_id=client_id,
        email=email or connection.email,
        scope=pair.scope,
        team_ids=team_ids or connection.team_ids,
        sync_due_at=pair.issued_at,
        full_due_at=None,
        revoked_at=None,
        revoked_reason=None,
    )
    fact = ConnectionAuthorized(
        account_id=held.account_id,
        email=held.email,
        scope=held.scope,
        expires_at=held.expires_at,
        reauthorized=reauthorized,
    )
    return held, (fact,)


def refresh(connection: Connection, pair: NewPair) -> Transition:
    """A rotation: both tokens are new. A sync that waited for it goes on at once.

    A pair that arrives for a connection given up as `rotation_lost` brings it back: the loss was that pair.
    """
    held = replace(_hold(connection, pair), scope=pair.scope or connection.scope)
    if connection.status is Status.active:
        return held, (ConnectionRefreshed(generation=held.generation, expires_at=held.expires_at),)
    revived = replace(held, status=Status.active, revoked_at=None, revoked_reason=None, sync_due_at=pair.issued_at)
    fact = ConnectionAuthorized(held.account_id, held.email, held.scope, held.expires_at, reauthorized=True)
    return revived, (fact,)


def add_others(facts: tuple[Fact, ...], others: tuple[str, ...]) -> tuple[Fact, ...]:
    """Return the facts of a transition, with the other users who have the same account connected."""
    return tuple(
        replace(fact, also_connected_by=others) if isinstance(fact, ConnectionAuthorized) else fact for fact in facts
    )


def may_hold(connection: Connection, generation: int) -> bool:
    """Return whether a pair granted for the refresh token of `generation` is still the newest."""
    lost = connection.status is Status.revoked and connection.revoked_reason == "rotation_lost"
    return connection.generation == generation and (connection.status is Status.active or lost)


def revoke(
    connection: Connection, reason: RevokedReason, detected_by: Detector, at: datetime, connect_path: str
) -> Transition:
    """The grant is surely dead: the user has to authorize again. Once only; a second report changes nothing."""
    if connection.status is not Status.active:
        return connection, ()
    ended = replace(_stop(connection), status=Status.revoked, problem=None, revoked_at=at, revoked_reason=reason)
    return ended, (ReauthorizationRequired(reason, detected_by, connect_path),)


def why_refused(connection: Connection, now: datetime) -> RevokedReason:
    """Return why the API refuses an access token that no refresh can replace: it has expired, or it was taken back.

    The provider's time began before its answer reached us, so a token may expire a moment before `expires_at`.
    """
    expires_at = connection.expires_at
    return "access_revoked" if expires_at is None or expires_at - answer_delay > now else "refresh_expired"


def disconnect(connection: Connection, at: datetime, told_later: bool) -> Transition:
    """The application disconnects the account; if the provider has yet to revoke it, the event waits for its answer."""
    if connection.status is Status.disconnected:
        return connection, ()
    ended = replace(_stop(connection), status=Status.disconnected, problem=None, revoked_at=at, revoked_reason=None)
    return ended, () if told_later else (ConnectionDisconnected(revoked_upstream=False),)


@dataclass(frozen=True, slots=True)
class DisconnectRequest:
    """A disconnect that is still to be carried out; `erase` is whether the connection's records go with it."""

    asked_at: datetime
    erase: bool


def newest_disconnect(
    pending: DisconnectRequest | None, asked: DisconnectRequest, authorized_at: datetime | None
) -> DisconnectRequest:
    """Return the one request that two of them come to: the newer time, and the records go if either says so.

    An older one that was superseded when the user authorized at `authorized_at` says nothing any more.
    """
    if pending is None:
        return asked
    older, newer = (pending, asked) if pending.asked_at <= asked.asked_at else (asked, pending)
    if older.asked_at < newer.asked_at and is_superseded(older.asked_at, authorized_at):
        return newer
    return DisconnectRequest(newer.asked_at, newer.erase or older.erase)


class DisconnectPlan(StrEnum):
    """What to do about a disconnect."""

    nothing = "nothing"
    """It was carried out before."""
    superseded = "superseded"
    """The user has authorized again since it was asked for."""
    repeated = "repeated"
    """The connection is disconnected already; its records may still have to go."""
    end = "end"


def plan_disconnect(
    connection: Connection, asked_at: datetime | None, authorized_at: datetime | None, now: datetime
) -> DisconnectPlan:
    """Decide what to do about a disconnect asked for at `asked_at`; None if that was carried out before.

    `authorized_at` is when the user authorized last. A request of this moment always counts, whatever other clocks say.
    """
    if asked_at is None:
        return DisconnectPlan.nothing
    if now - asked_at > clocks_differ and is_superseded(asked_at, authorized_at):
        return DisconnectPlan.superseded
    return DisconnectPlan.repeated if connection.status is Status.disconnected else DisconnectPlan.end


def is_superseded(asked_at: datetime, authorized_at: datetime | None) -> bool:
    """Return whether a disconnect was asked for before the user authorized last: it was meant for the older grant.

    Within what clocks may differ it counts as the newer of the two: no application's disconnect is ignored for that.
    """
    return authorized_at is not None and asked_at < authorized_at - clocks_differ


def note_problem(connection: Connection, problem: str | None) -> Connection:
    """Return it with what a sync found to be wrong; what is wrong with its refresh token stays."""
    if connection.problem in ("refused", "held"):
        return connection
    return replace(connection, problem=problem)


def limit_access(connection: Connection) -> Transition:
    """A 403: the account's plan, not its token."""
    if connection.access_limited:
        return connection, ()
    return replace(connection, access_limited=True, problem="plan_required"), (AccessLimited(),)


def restore_access(connection: Connection) -> Transition:
    """The API answers again after a 403."""
    if not connection.access_limited:
        return connection, ()
    return replace(connection, access_limited=False, problem=None), (AccessRestored(),)


def _hold(connection: Connection, pair: NewPair) -> Connection:
    generation = connection.generation + 1
    due = refresh_due_at(pair.issued_at, pair.expires_in, spread(connection.id, generation))
    return replace(
        connection,
        generation=generation,
        expires_at=pair.expires_at,
        refresh_due_at=due if pair.refreshable else None,
        problem="plan_required" if connection.access_limited else None,
    )


def _stop(connection: Connection) -> Connection:
    return replace(connection, refresh_due_at=None, sync_due_at=None, sync_requested=False)
