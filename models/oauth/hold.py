"""No one is blamed in bulk: which refused connections are ended at once, which wait, and which are held.

A server that was re-keyed, or a database of theirs that was restored, refuses every connection with certainty, and no
user has done anything. So when more connections of one client are refused than people revoke, the rest is held: its
tokens stay, no user is told, and an operator or a connection that turns out good decides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from models.backoff import Backoff
from models.journal import Note
from models.messaging.events import Detector, Fact, ReauthorizationRequired, RevokedReason
from models.oauth.connection import Connection
from models.provider import Provider

pauses_between_trials = Backoff.of_seconds(60, 120, 300, 600, 900)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The refusal of one connection's refresh token, or if it has none, of its access token.

    generation: of the refused token.
    reason, detected_by: what the connection's end would say.
    evidence: what the endpoint answered, for people.
    refused_at: when it was refused last.
    due_at: when it is tried once more, and ended if it is refused again; None if it is ended or held.
    ended_at: when the connection ended by it; None while its tokens are kept.
    is_held: whether it waits for the end of its client's hold.
    is_released: whether that has ended, and the sweep has yet to make its connection due.
    """

    connection_id: str
    provider: str
    client_id: str
    generation: int
    reason: RevokedReason
    detected_by: Detector
    evidence: Mapping[str, object]
    refused_at: datetime
    due_at: datetime | None = None
    ended_at: datetime | None = None
    is_held: bool = False
    is_released: bool = False


@dataclass(frozen=True, slots=True)
class Hold:
    """A client whose refused connections are held.

    by_operator: whether an operator holds them; then only an operator ends it.
    trials: how many times one held connection has been tried in vain.
    """

    provider: str
    client_id: str
    opened_at: datetime
    by_operator: bool
    trials: int
    next_trial_at: datetime


@dataclass(frozen=True, slots=True)
class Limits:
    """What is usual: so many refusals of a client, and such a share of its active connections, within the window."""

    count: int
    share: float
    window: timedelta


@dataclass(frozen=True, slots=True)
class Situation:
    """What a refusal is judged by.

    is_held: whether the client's refused connections are held already.
    refused: how many other connections of the client were refused within the window and not released.
    active: how many connections of the client are active, this one among them.
    earlier: this connection's own earlier refusal, of the same token.
    limits: what is usual.
    wait: how long a refusal may wait.
    """

    is_held: bool
    refused: int
    active: int
    earlier: Refusal | None
    limits: Limits
    wait: timedelta


@dataclass(frozen=True, slots=True)
class EndNow:
    """The connection ends, and its user is told."""


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Tokens are kept; it is tried once more then."""

    at: datetime


@dataclass(frozen=True, slots=True)
class HoldBack:
    """Tokens are kept until the hold ends; `opens` is whether the hold begins with this refusal."""

    opens: bool


Judgement = EndNow | WaitUntil | HoldBack


def limits_of(provider: Provider) -> Limits:
    return Limits(provider.mass_refusal_count, provider.mass_refusal_share, provider.mass_refusal_window)


def is_counted(reason: RevokedReason) -> bool:
    """Whether an end for this reason would be blamed on the user; a lost answer and an expiry are not."""
    return reason in ("access_revoked", "refresh_rejected")


def judge(situation: Situation, is_unreadable: bool, now: datetime) -> Judgement:
    """Decide what a refusal does; `is_unreadable` is whether the server can't read its own token any more.

    That is never a user's doing, so it is never believed the first time. Any other is believed at once while few were
    refused, and later waits, until the wait is over or the refusals are so many that all are held.
    """
    if situation.is_held:
        return HoldBack(opens=False)
    refused, limits = situation.refused + 1, situation.limits
    if refused > limits.count and refused > limits.share * situation.active:
        return HoldBack(opens=True)
    earlier = situation.earlier
    if earlier is not None and earlier.due_at is not None:
        return EndNow() if earlier.due_at <= now else WaitUntil(earlier.due_at)
    if is_unreadable or situation.refused >= limits.count:
        return WaitUntil(now + situation.wait)
    return EndNow()


def open_hold(provider: str, client_id: str, by_operator: bool, now: datetime) -> Hold:
    return Hold(provider, client_id, now, by_operator, 0, now + pauses_between_trials.first)


def begin_trial(hold: Hold, now: datetime) -> Hold | None:
    """Reserve the trial of one held connection; None if none is due."""
    if hold.next_trial_at > now:
        return None
    trials = hold.trials + 1
    return replace(hold, trials=trials, next_trial_at=now + pauses_between_trials.after(trials + 1))


class Ending(Protocol):
    """A decision that would end a connection, of a refresh or of a sync."""

    @property
    def subject(self) -> Connection: ...

    @property
    def at(self) -> datetime: ...

    @property
    def facts(self) -> Sequence[Fact]: ...

    @property
    def notes(self) -> Sequence[Note]: ...


def describe_refusal(ended: Ending) -> Refusal:
    """Return the refusal that `ended` would end its connection by."""
    subject = ended.subject
    [fact] = [each for each in ended.facts if isinstance(each, ReauthorizationRequired)]
    return Refusal(
        connection_id=subject.id,
        provider=subject.provider,
        client_id=subject.client_id,
        generation=subject.generation,
        reason=fact.reason,
        detected_by=fact.detected_by,
        evidence=ended.notes[-1].evidence,
        refused_at=ended.at,
    )
