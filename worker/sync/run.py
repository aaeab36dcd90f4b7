"""Read a connection's lists page by page: take its run, ask for a page, decide, and write the page's outcome."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import wraps
from time import monotonic
from typing import ParamSpec, TypeVar
from uuid import uuid4

import structlog

from models.api_response import Failed, Page
from models.audit.entry import Channel, received
from models.crypto.secrets import Sealed
from models.crypto.vault import Vault, VaultError
from models.errors import StoreConflict, StoreRefused
from models.journal import Request
from models.messaging import messages
from models.oauth.connection import Connection, Status
from models.oauth.credential import Credential, place_of_token
from models.oauth.hold import describe_refusal, is_counted, judge, limits_of
from models.paging.page_format import PageAsked
from models.rate_limit import Wait
from models.store import Store, Transaction
from models.store.sync_runs import SyncRows
from models.sync.decision import NothingLeft, NothingYet, PageRead, ParentsNeeded, StepDecision, StepRows
from models.sync.page import parse_page
from models.sync.refusal import carry_out
from models.sync.since import asked_resource, begin_at
from models.sync.snapshot import longest_silence, most_records
from models.sync.start import StartRequest, set_aside, start
from models.sync.step import StepAnswer, decide_step, hand_on
from models.sync.sync_run import name_run, plan_lists, slice_length
from worker.metrics.counters import Metrics
from worker.provider.client import ProviderClient
from worker.provider.transport import Meanwhile
from worker.sync.apply_step import apply_step, write_draft
from worker.sync.rows import add_page, choose_incremental, load_slice, load_stored, lock_rows, rows_in_memory
from worker.sync.slice import Slice
from worker.tokens.data_keys import fetching_keys

P = ParamSpec("P")
R = TypeVar("R")


def once_more(write: Callable[P, R]) -> Callable[P, R]:
    """Let a transaction see what another one wrote.

    Race: another job begins or ends the run while this one waits for the connection's lock.
    """

    @wraps(write)
    def write_again(*args: P.args, **named: P.kwargs) -> R:
        try:
            return write(*args, **named)
        except StoreConflict:
            return write(*args, **named)

    return write_again


@dataclass(frozen=True, slots=True)
class Sync:
    """The flow. A job reads for a few seconds, then hands the run on through the queue; what must wait is a row.

    A process may die after any step: a page that changes anything commits its records, its events and the run's
    position together. Pages that change nothing stay in the job's memory until then, or until the job lets the run go,
    and those that only add records for a moment (see `Waiting`).

    How long a job reads is measured by the monotonic clock: `now` may be set back meanwhile.
    """

    store: Store
    vault: Vault
    providers: Mapping[str, ProviderClient]
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]
    interval: timedelta
    slice_length: timedelta = slice_length
    monotonic: Callable[[], float] = monotonic
    most_in_memory: int = most_records
    metrics: Metrics = field(default_factory=Metrics)

    def __call__(self, connection_id: str, asked: bool = True, message_id: str | None = None) -> None:
        """Continue the connection's run, or start one; `asked` if someone requested it, and not only because it is due.

        `message_id` is the application's message that asks; None if nothing can ask twice.
        """
        own = self.take(connection_id, asked, message_id)
        if own is None:
            return
        end = self.monotonic() + self.slice_length.total_seconds()
        following: Slice | None = own
        try:
            while following is not None:
                following = self.step(following)
                if self.monotonic() >= end:
                    break
        finally:
            own.allowance.settle()
        if following is not None and self.hand_on(following):
            self.send(messages.read_connection(connection_id))

    @once_more
    @fetching_keys
    def take(self, connection_id: str, asked: bool = True, message_id: str | None = None) -> Slice | None:
        """Lease the connection's run, or a new one; None if there is nothing to read now."""
        with self.store.writing() as tx:
            usable = _lock_usable(tx, connection_id)
            if usable is None:
                return None
            now = self.now()
            connection, credential, access_token, found = usable
            request = _identify(tx, connection, asked, message_id, now)
            decision = start(connection, found.run, found.lease, request, now)
            if decision is None:
                return None
            if message_id is not None and request.requested and not request.repeated:
                asked_for = {"message_id": message_id}
                tx.audit.add(received(Channel.message, "sync", asked_for, connection_id=connection_id), now)
            profile = self.providers[connection.provider].provider
            decision = choose_incremental(tx, decision, profile)
            run = decision.run
            if run is None:
                apply_step(tx, decision, profile)
                return None
            try:
                token = self.vault.open(access_token, place_of_token(connection, "access_token"))
            except VaultError as error:
                apply_step(tx, set_aside(decision, run, self.interval), profile)
                structlog.get_logger("sync").error("sync.impossible", connection_id=connection_id, error=str(error))
                return None
            leased = tx.runs.lease(run) if decision.only_leases else None
            if leased is None:
                apply_step(tx, decision, profile)
            plan = begin_at(plan_lists(profile, connection.team_ids, run.depth, run.parents), run.since)
            own = Slice(
                run=run,
                plan=plan,
                connection=decision.connection or connection,
                credential=credential,
                generation=connection.generation,
                access_token=token,
                allowance=self.providers[connection.provider].allow(connection.account_id),
                at=now,
                is_stored=not decision.only_leases,
            )
            load = load_slice(tx, own, not decision.begins, self.most_in_memory)
        if leased is not None and leased.count == 0:
            raise StoreConflict("another job began a run first")
        return load()

    def step(self, own: Slice) -> Slice | None:
        """Ask for a page, and commit its outcome unless it can wait; None if this job is done with the run."""
        following, answer = self._ask_and_write(own)
        if following is None or answer is None:
            return following
        own = following
        kept = self._keep(own, answer)
        if kept is not None:
            return kept
        try:
            return self._save(own, answer)
        except StoreRefused as refused:
            # It may be a record of an earlier page that the database refuses.
            before = own.go_back()
            if before is not None:
                return before
            if not isinstance(answer, PageRead):
                raise
            return self._save(own, Failed(str(refused)))

    def _ask_and_write(self, own: Slice) -> tuple[Slice | None, StepAnswer | None]:
        """Ask for a page, and commit what waits if its answer takes its time.

        Return the slice with the request in its log, and the answer. There is no answer to go on with if what waited
        could not be written, and no slice if the run is no longer this job's.
        """
        writing = None
        if own.written is not None:
            writing = Meanwhile(longest_silence.total_seconds(), lambda: self._write_waiting(own))
        answer, log = self.ask(own, writing)
        following = own if writing is None or not writing.has_run else writing.outcome()
        if following is None:
            with self.store.writing() as tx:
                tx.journal.log(log)
            return None, None
        has_gone_back = following.one_by_one and not own.one_by_one
        logged = replace(following, draft=replace(following.draft, log=(*following.draft.log, *log)))
        return logged, None if has_gone_back else answer

    def _write_waiting(self, own: Slice) -> Slice | None:
        """Commit what waits, because the next page takes its time; None if the run is no longer this job's."""
        try:
            return self._save(own, NothingYet())
        except StoreRefused:
            return own.go_back()

    def ask(self, own: Slice, meanwhile: Meanwhile[Slice | None] | None = None) -> tuple[StepAnswer, list[Request]]:
        """Request the run's next page; return the answer, and the request for the log if one was made."""
        run, provider = own.run, self.providers[own.connection.provider]
        if run.place >= len(own.plan):
            return NothingLeft(), []
        sync_list = own.plan[run.place]
        if sync_list.needs_parents:
            return ParentsNeeded(), []
        resource = asked_resource(sync_list, run.page)
        asked = PageAsked(max(run.page, 1), run.cursor)
        own.allowance.wanted = len(own.plan) - run.place
        called = provider.read_page(resource, sync_list.path, asked, own.access_token, own.allowance, meanwhile)
        if isinstance(called, Wait):
            return called, []
        outcome = called.outcome
        if not isinstance(outcome, Page):
            return outcome, called.log_for(own.connection.id)
        answer = parse_page(outcome, resource, provider.provider, sync_list.parent)
        return answer, called.log_for(own.connection.id)

    def hand_on(self, own: Slice) -> bool:
        """Return the run to the queue, behind everything that waits there; False if this job has no run to return.

        If the database refuses what waits, the first page of that is read again and committed by itself: the next job
        would let it wait once more.
        """
        try:
            return self._hand_on(own)
        except StoreRefused:
            before = own.go_back()
            if before is None:
                raise
        try:
            following = self.step(before)
        finally:
            own.allowance.settle()
        return following is not None and self._hand_on(following)

    def _keep(self, own: Slice, answer: StepAnswer) -> Slice | None:
        """Go on without a commit if the page changed nothing, or only added records; None if what the answer means has
        to be written.

        The lease is the one that the job took: its slice and the longest page are over before it is.
        """
        if own.snapshot is None or not isinstance(answer, PageRead):
            return None
        provider = self.providers[own.connection.provider].provider
        rows = add_page(rows_in_memory(own, provider, self.interval), own, own.snapshot, answer)
        return own.keep(decide_step(rows, answer, self.now()), rows, answer)

    @once_more
    def _hand_on(self, own: Slice) -> bool:
        with self.store.writing() as tx:
            locked = self._lock(tx, own)
            if locked is None:
                return False
            rows, now = locked
            decision = hand_on(rows, now)
            apply_step(tx, decision, rows.provider, own)
            has_events = tx.outbox.has_appended
        self._report(own, decision, has_events)
        return True

    @once_more
    def _save(self, own: Slice, answer: StepAnswer) -> Slice | None:
        """Decide what the answer means for the rows as they are now, and write it with all that was kept in memory."""
        with self.store.writing() as tx:
            locked = self._lock(tx, own)
            if locked is None:
                return None
            rows, now = locked
            rows = load_stored(tx, rows, own, answer)
            decision = decide_step(rows, answer, now)
            if decision.ended is not None:
                decision = self._judge(tx, decision, rows)
            apply_step(tx, decision, rows.provider, own)
            has_events = tx.outbox.has_appended
        self._report(own, decision, has_events)
        return own.after(decision, rows) if decision.goes_on else None

    def _lock(self, tx: Transaction, own: Slice) -> tuple[StepRows, datetime] | None:
        """Lock the run and write what the job kept in memory; None if it is no longer this job's: then only what the
        job requested is logged."""
        tx.journal.log(own.draft.log)
        provider = self.providers[own.connection.provider].provider
        rows = lock_rows(tx, own, provider, self.interval)
        if rows is None:
            return None
        now = self.now()
        write_draft(tx, own, now)
        return rows, now

    def _report(self, own: Slice, decision: StepDecision, has_events: bool) -> None:
        """Send and count what follows from a commit."""
        if has_events:
            self.send(messages.publish_events())
        self.metrics.count_changes(decision.subject.provider, own.draft.waiting.changes)
        self.metrics.note_step(own.run, own.credential.issued_at, decision)
        for message in decision.send:
            self.send(message)

    def _judge(self, tx: Transaction, ended: StepDecision, rows: StepRows) -> StepDecision:
        """Decide whether a refused connection ends, waits or is held, by how many others were refused."""
        refusal = describe_refusal(ended)
        # Race: many are refused at once; the client's lock lets each of them count those before it.
        tx.clients.lock(refusal.provider, refusal.client_id)
        situation = tx.refusals.situation(refusal, limits_of(rows.provider), self.interval)
        if not (is_counted(refusal.reason) or situation.is_held):
            return ended
        return carry_out(judge(situation, False, ended.at), ended, refusal, situation.earlier, rows.run)


def _lock_usable(tx: Transaction, connection_id: str) -> tuple[Connection, Credential, Sealed, SyncRows] | None:
    """Return the connection with its credential and access token, and all that was locked; None if it is not usable."""
    found = tx.runs.lock_with_pair(connection_id)
    connection, credential = found.connection, found.credential
    if connection is None:
        structlog.get_logger("sync").warning("connection.unknown")
    if connection is None or connection.status is not Status.active:
        return None
    if credential is None or credential.access_token is None:
        return None
    return connection, credential, credential.access_token, found


def _identify(
    tx: Transaction, connection: Connection, asked: bool, message_id: str | None, now: datetime
) -> StartRequest:
    """Return the request of a message; the run that it starts is named after it, so that it starts only one."""
    named = None if message_id is None else name_run(connection.id, message_id)
    repeated = named is not None and tx.runs.has(named, now)
    run_id = uuid4().hex if named is None or repeated else named
    return StartRequest(requested=asked, repeated=repeated, run_id=run_id, owner=uuid4().hex)
