"""A call as a job: what is stored of it, what a job may do with it now, and every state that it passes through."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from models.crypto.sealed_text import Place
from models.crypto.secrets import Sealed
from models.gateway.keys import safe_methods
from models.journal import Note, Verb, Word
from models.messaging import messages
from models.messaging.events import CallCompleted, CallFailed, CallUnknown, Fact

longest_life: Final = timedelta(hours=1)
"""For how long a call that was not carried out is tried."""
bodies_kept: Final = timedelta(days=1)
answers_kept: Final = longest_life + 2 * bodies_kept
"""Of a call that is older than that, nothing is kept outside of the database."""
lease: Final = timedelta(seconds=60)
"""Longer than a request takes at most: a call that is running for longer has lost its job."""


class CallStatus(StrEnum):
    """How far a call is. `running` is committed before its request leaves."""

    pending = "pending"
    running = "running"
    completed = "completed"
    failed = "failed"
    unknown = "unknown"


class CallReason(Word):
    """Why a call failed, waits, or has no answer to show."""

    reauthorization_required = (
        "reauthorization_required",
        "the connection has ended: its user has to authorize again",
    )
    plan_required = "plan_required", "the account's plan has no API access"
    connection_unknown = "connection_unknown", "the connection's provider is not configured"
    rate_limited = "rate_limited", "the account's requests are used up"
    provider_unavailable = "provider_unavailable", "the provider does not answer, or takes no requests"
    token_refused = "token_refused", "the API refuses the connection's access token"
    refresh_pending = "refresh_pending", "the access token is being refreshed"
    held = "held", "the connection is held: the provider refuses the refresh tokens of many users"
    unreadable = "unreadable", "the call or its access token can't be decrypted with the configured keys"
    erased = "erased", "its request was erased before it was sent"
    expired = "expired", "no worker sent it within an hour"
    answer_lost = "answer_lost", "it was sent, and no answer arrived: it may have been carried out"
    answer_incomplete = "answer_incomplete", "the answer's body was cut off, or is longer than is kept"


@dataclass(frozen=True, slots=True)
class StoredCall:
    """A call with its sealed request and answer.

    path: without its query, which is in `request`.
    actor: whom the audit names: the gateway's key. address: where its request came from.
    request, answer: sealed; None once they were erased, or while there is none.
    bodies_until: when they are erased.
    due_at: when a job may look at it next; None once it has ended.
    lease_owner: the job whose request is, or was, on its way.
    attempts: how many times a request was about to leave.
    answer_status: the HTTP status of the last answer.
    reason: a `CallReason`: why it waits or how it ended.
    """

    id: str
    connection_id: str
    idempotency_key: str
    method: str
    path: str
    actor: str
    status: CallStatus
    created_at: datetime
    request: Sealed | None
    bodies_until: datetime | None
    due_at: datetime | None
    address: str | None = None
    answer: Sealed | None = None
    lease_owner: str | None = None
    attempts: int = 0
    answer_status: int | None = None
    reason: str | None = None
    ended_at: datetime | None = None

    @property
    def is_safe(self) -> bool:
        """Return whether it may be sent more than once."""
        return self.method in safe_methods

    def place_of(self, field: str) -> Place:
        """Return the place that its request or answer is sealed to."""
        return Place("call", self.id, field)


@dataclass(frozen=True, slots=True)
class CallDecision:
    """What a step makes of a call.

    call: as it is to be stored.
    keeps_answer: whether the answer is stored with it, sealed.
    asks_refresh: whether a refresh is asked for, for its sake.
    may_have_changed: whether the provider may hold something new, so that the connection is due for reading.
    """

    call: StoredCall
    facts: tuple[Fact, ...] = ()
    notes: tuple[Note, ...] = ()
    send: tuple[messages.Message, ...] = ()
    keeps_answer: bool = False
    asks_refresh: bool = False
    may_have_changed: bool = False


@dataclass(frozen=True, slots=True)
class Leave:
    """Do nothing: it has ended, it is not due, or another job has it."""


@dataclass(frozen=True, slots=True)
class Start:
    """Send it if its connection allows."""


CallPlan = Leave | Start | CallDecision


def plan_call(call: StoredCall, now: datetime) -> CallPlan:
    """Return what a job may do with a call now."""
    # Race: two jobs got a message for the same call; while one has sent it, it is due only when the lease is over.
    if call.due_at is None or now < call.due_at:
        return Leave()
    # Race: a job was killed between its intent and the answer's save; whether its request arrived is not known.
    if call.status is CallStatus.running and not call.is_safe:
        return lose(call, now)
    if now >= call.created_at + longest_life:
        return fail(call, CallReason(call.reason) if call.reason else CallReason.expired, now)
    if call.request is None:
        return fail(call, CallReason.erased, now)
    return Start()


def begin(call: StoredCall, owner: str, now: datetime) -> StoredCall:
    """Return the intent, which is committed before the request leaves."""
    return replace(
        call, status=CallStatus.running, due_at=now + lease, lease_owner=owner, attempts=call.attempts + 1, reason=None
    )


def postpone(call: StoredCall, pause: timedelta, reason: CallReason, now: datetime) -> CallDecision:
    """Look at a call that was not carried out again after the pause; it fails if that is later than it is tried."""
    due_at = now + pause
    if due_at >= call.created_at + longest_life:
        return fail(call, reason, now)
    waiting = replace(call, status=CallStatus.pending, due_at=due_at, lease_owner=None, reason=reason.value)
    return CallDecision(waiting, send=() if pause else (messages.call(call.id),))


def complete(call: StoredCall, status: int, reason: CallReason | None, now: datetime) -> CallDecision:
    """End a call that the provider answered; with a reason, the answer's body can't be kept."""
    ended = replace(_end(call, CallStatus.completed, reason, now), answer_status=status)
    return CallDecision(
        ended,
        facts=(CallCompleted(call.id, status),),
        send=(messages.publish_events(),),
        keeps_answer=True,
        may_have_changed=not call.is_safe and 200 <= status < 300,
    )


def fail(call: StoredCall, reason: CallReason, now: datetime) -> CallDecision:
    """End a call that was surely not carried out."""
    ended = _end(call, CallStatus.failed, reason, now)
    return CallDecision(
        ended,
        facts=(CallFailed(call.id, call.answer_status, reason.value),),  # type: ignore[arg-type]  # a test compares
        notes=(_note(Verb.call_failed, ended),),
        send=(messages.publish_events(),),
    )


def lose(call: StoredCall, now: datetime) -> CallDecision:
    """End a call that may have been carried out and can't be repeated."""
    ended = replace(_end(call, CallStatus.unknown, CallReason.answer_lost, now), answer_status=None)
    return CallDecision(
        ended,
        facts=(CallUnknown(call.id, None, "answer_lost"),),
        notes=(_note(Verb.call_unknown, ended),),
        send=(messages.publish_events(),),
        may_have_changed=True,
    )


def _end(call: StoredCall, status: CallStatus, reason: CallReason | None, now: datetime) -> StoredCall:
    word = None if reason is None else reason.value
    return replace(call, status=status, due_at=None, lease_owner=None, reason=word, ended_at=now)


def _note(verb: Verb, ended: StoredCall) -> Note:
    shown = {"call_id": ended.id, "method": ended.method, "path": ended.path, "reason": ended.reason}
    return Note(verb, shown | {"attempts": ended.attempts})
