"""Carry out a call that an application has left with the gateway: at most once, unless its method is safe."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

import structlog

from models.audit.entry import Action, Channel, Entry
from models.crypto.secrets import Secret
from models.crypto.vault import Vault, VaultError
from models.errors import Transient
from models.gateway.access import Access
from models.gateway.arrived import Arrived
from models.gateway.call import CallDecision, CallReason, CallStatus, Leave, StoredCall, begin, plan_call, postpone
from models.gateway.call_outcome import admit, admit_still, decide_call, is_token_refused, pause_of, shortest_pause
from models.gateway.call_request import Unpacked, pack_answer, unpack_request
from models.http import HttpAnswer
from models.messaging import messages
from models.oauth.access_refusal import AccessRefusal
from models.oauth.connection import Connection
from models.oauth.credential import place_of_token
from models.rate_limit import Wait
from models.store import Store, Transaction
from models.store.requested_sync import request_sync
from worker.calls.kept_answers import KeptAnswers
from worker.metrics.counters import Metrics
from worker.provider.client import Answered, ProviderClient, Sending
from worker.provider.rate_limit import Settlement, longest_held
from worker.tokens.access import refuse_access
from worker.tokens.data_keys import fetching_keys

unreadable_pause: Final = timedelta(minutes=1)
most_lines: Final = 100
"""How many lines of the request log are looked at for one that was written a moment ago."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What is needed to send a call; everything that can fail has been done."""

    connection: Connection
    token: Secret
    request: Unpacked


@dataclass(frozen=True, slots=True)
class Taken:
    """A call whose intent is committed: this job alone may send it, and only before `sending.send_before`."""

    call: StoredCall
    connection: Connection
    sending: Sending


@dataclass(frozen=True, slots=True)
class CarryOutCall:
    """The flow. A process may die after any step: the row says what was done, and the next job goes on from there."""

    store: Store
    vault: Vault
    providers: Mapping[str, ProviderClient]
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]
    answers: KeptAnswers
    metrics: Metrics = field(default_factory=Metrics)

    def __call__(self, call_id: str) -> None:
        """Send the call if it is due, and store what came of it."""
        with self.store.reading() as tx:
            call = tx.calls.get(call_id)
            access = None if call is None else tx.gateway.find([call.connection_id]).get(call.connection_id)
        if call is None:
            structlog.get_logger("calls").warning("call.not_found")
            return
        if call.ended_at is not None:
            # Race: a job saved the answer, and was killed or did not hear of its commit, while Redis still kept it.
            self.answers.drop({call.id: call.attempts})
            return
        if call.status is CallStatus.running and self._save_kept(call):
            return
        opened = self._prepare(call, access)
        if opened is None:
            return
        provider, account_id = self.providers[opened.connection.provider], opened.connection.account_id
        # The reservation counts until an answer that comes as late as it may.
        send_before = self.now() + longest_held
        granted = provider.budgets.reserve(provider.provider, account_id)
        if isinstance(granted, Wait):
            pause = max(timedelta(seconds=granted.seconds), shortest_pause)
            self._write(call, postpone(call, pause, CallReason.rate_limited, self.now()))
            return
        settlement = Settlement(granted.second, granted.number)
        try:
            taken = self._begin(call, opened, send_before)
            if taken is not None:
                called = provider.call(taken.sending, opened.token)
                settlement = settle(settlement, called, self.now())
                self._save_or_keep(taken.call, arrived_of(taken, called))
        finally:
            provider.budgets.settle(provider.provider, account_id, settlement)

    def _prepare(self, call: StoredCall, access: Access | None) -> Opened | None:
        """Return what is needed to send the call; None if it may not leave now, which is written then."""
        if access is not None and access.connection.provider not in self.providers:
            access = None
        now = self.now()
        plan = plan_call(call, now)
        if isinstance(plan, Leave):
            return None
        decision = plan if isinstance(plan, CallDecision) else admit(call, access, now)
        if decision is None and access is not None:
            try:
                return self._open(call, access)
            except VaultError as error:
                report_unreadable(call, error)
                decision = postpone(call, unreadable_pause, CallReason.unreadable, now)
        if decision is not None:
            self._write(call, decision)
        return None

    @fetching_keys
    def _open(self, call: StoredCall, access: Access) -> Opened:
        """Open what leaves, and make sure that the answer can be sealed."""
        if access.access_token is None or call.request is None:
            raise AssertionError("a call was admitted without a token or a request")
        self.vault.require()
        token = self.vault.open(access.access_token, place_of_token(access.connection, "access_token"))
        request = self.vault.open(call.request, call.place_of("request"))
        return Opened(access.connection, token, unpack_request(request.reveal()))

    def _begin(self, seen: StoredCall, opened: Opened, send_before: datetime) -> Taken | None:
        """Commit the intent; None if another job was faster, or if the connection has changed, and what that means for
        the call is written. The audit names the call before it leaves."""
        with self.store.writing() as tx:
            connection = tx.connections.lock(seen.connection_id)
            # Race: two jobs have read the same call; the second to lock it finds it changed.
            if connection is None or tx.calls.lock(seen.id) != seen:
                return None
            now = self.now()
            call = begin(seen, uuid4().hex, now)
            # Race: a disconnect or a refresh is committed while this job waits for Redis.
            decision = admit_still(seen, opened.connection, connection, now)
            if decision is not None:
                self._apply(tx, connection, decision, now)
            else:
                tx.calls.save(call)
                if call.attempts == 1:
                    tx.audit.add(entry_of(call, Action.call_made, {"call_id": call.id}), now)
        if decision is not None:
            self._tell(connection, decision)
            return None
        request = opened.request
        sending = Sending(call.method, request.target, call.path, request.headers, request.body, send_before)
        return Taken(call, opened.connection, sending)

    def _save_or_keep(self, call: StoredCall, arrived: Arrived) -> None:
        """Save what came of the request. It can't be had a second time: while the database is away or hangs, Redis
        keeps it, and a later job saves it."""
        try:
            with self.answers.shielding(call, arrived):
                self._save(call, arrived)
        except Transient as error:
            structlog.get_logger("calls").warning("call.not_saved", error=str(error))
            raise

    def _save_kept(self, call: StoredCall) -> bool:
        """Save what Redis keeps of a call whose job could not; return False if it keeps nothing."""
        arrived = self.answers.find(call)
        if arrived is None:
            return False
        self._save(call, arrived, was_kept=True)
        self.answers.drop({call.id: call.attempts})
        return True

    def _save(self, taken: StoredCall, arrived: Arrived, was_kept: bool = False) -> None:
        """Decide what the answer means for the call, and write it with its events."""
        connection_id, send = taken.connection_id, list[messages.Message]()
        with self.store.writing() as tx:
            connection = tx.connections.lock(connection_id)
            call, now = tx.calls.lock(taken.id), self.now()
            is_current = call is not None and call.lease_owner == arrived.owner
            # Race: two jobs found what was kept of one request, or one did while the save of the job that made it hung;
            # the first has logged it.
            lines = arrived.log_for(taken)
            if is_current or not (was_kept or set(lines) <= set(tx.journal.calls_of(connection_id, most_lines))):
                tx.journal.log(lines)
            refusal: AccessRefusal | None = None
            if is_token_refused(arrived.outcome, now):
                refusal, more = refuse_access(tx, connection_id, arrived.generation, now)
                send += more
            # Race: this job slept past its lease; another one has told that the answer was lost, or sent it again.
            if connection is None or call is None or not is_current:
                return
            decision = decide_call(call, arrived.outcome, refusal, now)
            if decision.keeps_answer and isinstance(arrived.outcome, HttpAnswer) and call.bodies_until is not None:
                packed = Secret(pack_answer(arrived.outcome))
                sealed = self.vault.seal_whatever_happens(packed, call.place_of("answer"))
                decision = replace(decision, call=replace(decision.call, answer=sealed))
            self._apply(tx, connection, decision, now)
        self._tell(connection, decision, send)

    def _write(self, seen: StoredCall, decision: CallDecision) -> None:
        """Write what was decided about a call that does not leave, unless another job has changed it meanwhile."""
        with self.store.writing() as tx:
            connection = tx.connections.lock(seen.connection_id)
            if connection is None or tx.calls.lock(seen.id) != seen:
                return
            self._apply(tx, connection, decision, self.now())
        self._tell(connection, decision)

    def _apply(self, tx: Transaction, connection: Connection, decision: CallDecision, now: datetime) -> None:
        tx.calls.save(decision.call)
        tx.outbox.append(connection.about, decision.facts, now)
        for note in decision.notes:
            tx.journal.decide(connection.id, now, note.verb, **note.evidence)
        if decision.may_have_changed:
            request_sync(tx, connection.id, now)
        if decision.asks_refresh and tx.connections.request_refresh(connection.id, now):
            asked = {"command": "refresh", "channel": Channel.gateway.value}
            tx.audit.add(entry_of(decision.call, Action.command_received, asked), now)

    def _tell(self, connection: Connection, decision: CallDecision, more: Sequence[messages.Message] = ()) -> None:
        """Send what follows from a decision that was committed, and count a call that has ended."""
        synced = [messages.carry_out_sync(connection.id)] if decision.may_have_changed else []
        for message in (*decision.send, *more, *synced):
            self.send(message)
        if decision.call.ended_at is not None:
            self.metrics.count_call(connection.provider, decision.call.status)


def report_unreadable(call: StoredCall, error: VaultError) -> None:
    """Log what an operator has to mend."""
    structlog.get_logger("calls").error("call.impossible", connection_id=call.connection_id, error=str(error))


def arrived_of(taken: Taken, called: Answered) -> Arrived:
    """Return what came of the request of a call that a job has taken."""
    owner, generation = str(taken.call.lease_owner), taken.connection.generation
    return Arrived(owner, generation, called.at, called.duration_ms, called.outcome)


def settle(reserved: Settlement, called: Answered, now: datetime) -> Settlement:
    """Return what became of the request that was reserved for a call."""
    pause = pause_of(called.outcome, now).total_seconds()
    return replace(reserved, ages=(0.0,) if called.sent else (), remaining=called.remaining, pause=pause)


def entry_of(call: StoredCall, action: Action, detail: Mapping[str, object]) -> Entry:
    """Return the audit's line about what is done for whoever asked for the call."""
    if action is Action.call_made:
        detail = {"method": call.method, "path": call.path, **detail}
    return Entry(action=action, actor=call.actor, connection_id=call.connection_id, address=call.address, detail=detail)
