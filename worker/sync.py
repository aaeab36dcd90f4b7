"""Reading a connection's resources, page by page: each page's records, cursor and events commit together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never
from uuid import uuid4

import structlog

from models import messages
from models.budget import Wait
from models.cadence import choose_depth, plan_next
from models.connection import Connection, Status, limit_access, restore_access, revoke
from models.credential import asks_for_refresh
from models.events import SyncCompleted, SyncFailed
from models.page import Failed, Forbidden, Missing, Page, Throttled, Unauthorized
from models.refresh_policy import spread
from models.secrets import Secret
from models.store import Store, Transaction
from models.store.journal import Request
from models.store.transaction import StoreRefused
from models.sync_run import (
    Reading,
    SyncRun,
    fail,
    finish,
    gives_up,
    on_its_way,
    plan_readings,
    retry_delay,
    run_lease,
    slice_length,
)
from models.vault import Place, Vault
from worker.provider_client import Called, ProviderClient
from worker.reading import Step


@dataclass(frozen=True, slots=True)
class Slice:
    """What one job reads with: the run it leased, and the token of the generation it goes by."""

    run: SyncRun
    connection: Connection
    access_token: Secret
    generation: int


@dataclass(frozen=True, slots=True)
class Sync:
    """A job reads for a few seconds, then hands the run on through the queue; what must wait is a row."""

    store: Store
    vault: Vault
    providers: Mapping[str, ProviderClient]
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]
    interval: timedelta
    slice_length: timedelta = slice_length

    def __call__(self, connection_id: str, asked: bool = True) -> None:
        """Goes on with the connection's run, or begins one; `asked` for by somebody, or just because it is due."""
        own = self._take(connection_id, asked)
        if own is None:
            return
        end = self.now() + self.slice_length
        going: Slice | None = own
        while going is not None and self.now() < end:
            going = self._read_one(going)
        if going is not None and self._hand_on(going):
            self.send(messages.read_connection(connection_id))
        self.send(messages.publish_events())

    def _take(self, connection_id: str, asked: bool = True) -> Slice | None:
        """Leases the connection's run, or begins one. What is asked for while one is under way runs after it."""
        now, owner = self.now(), uuid4().hex
        with self.store.writing() as tx:
            connection = tx.connections.lock(connection_id)
            if connection is None:
                structlog.get_logger("sync").warning("connection.unknown")
            if connection is None or connection.status is not Status.active:
                return None
            credential = tx.credentials.get(connection_id)
            if credential is None or credential.access_token is None:
                return None
            run = tx.runs.running(connection_id)
            if run is not None and asked:
                tx.connections.note_request(connection_id)
                connection = replace(connection, sync_requested=True)
            if run is not None and _must_wait(run, connection, now):
                return None
            if run is None:
                depth = choose_depth(connection, asked or connection.sync_requested, now)
                run = SyncRun(uuid4().hex, connection_id, "running", now, depth)
                tx.runs.add(run)
                connection = replace(connection, sync_requested=False)
            run = replace(run, lease_owner=owner, lease_until=now + run_lease, resume_at=None)
            tx.runs.save(run)
            tx.connections.save(replace(connection, sync_due_at=now + run_lease), connection.generation)
        token = self.vault.open(credential.access_token, Place("credential", connection_id, "access_token"))
        return Slice(run, connection, token, connection.generation)

    def _read_one(self, own: Slice) -> Slice | None:
        """Reads one page and commits it; None where this job is done with the run."""
        provider = self.providers[own.connection.provider]
        readings = plan_readings(provider.provider, own.connection.team_ids, own.run.depth)
        if own.run.place >= len(readings):
            return self._commit(own, None, self._complete)
        reading, page = readings[own.run.place], own.run.page
        resource = reading.resource if page else replace(reading.resource, query=reading.resource.peek)
        account_id = own.connection.account_id
        called = provider.read_page(resource, reading.path, max(page, 1), own.access_token, account_id)
        if isinstance(called, Wait):
            room_in = timedelta(seconds=called.seconds)
            return self._commit(own, None, lambda tx, c, r: self._park(tx, c, r, self.now() + room_in))
        match called.outcome:
            case Page() as read:
                try:
                    return self._commit(own, called, lambda tx, c, r: self._keep(tx, c, r, reading, read))
                except StoreRefused as refused:
                    failed = Failed(str(refused))
                    return self._commit(own, called, lambda tx, c, r: self._stumble(tx, c, r, reading, failed))
            case Unauthorized():
                return self._commit(own, called, lambda tx, c, r: self._doubt(tx, c, r, own.generation))
            case Forbidden():
                return self._commit(own, called, lambda tx, c, r: self._forbid(tx, c, r, reading))
            case Missing():
                return self._commit(own, called, lambda tx, c, r: self._leave(tx, c, r, reading, "not_found"))
            case Throttled(retry_after):
                return self._commit(own, called, lambda tx, c, r: self._park(tx, c, r, self.now() + retry_after))
            case Failed() as failed:
                return self._commit(own, called, lambda tx, c, r: self._stumble(tx, c, r, reading, failed))
            case _:
                assert_never(called.outcome)

    def _commit(
        self, own: Slice, called: Called | None, step: Callable[[Transaction, Connection, SyncRun], SyncRun | None]
    ) -> Slice | None:
        """One step of the run in one transaction, if this job still holds it and the connection still stands."""
        with self.store.writing() as tx:
            connection = tx.connections.lock(own.connection.id)
            run = tx.runs.running(own.connection.id)
            if called is not None:
                tx.journal.log(
                    [Request(called.at, own.connection.id, "GET", called.path, called.status, called.duration_ms)]
                )
            if connection is None or connection.status is not Status.active or run is None:
                return None
            if run.id != own.run.id or run.lease_owner != own.run.lease_owner:
                return None
            following = step(tx, connection, run)
        return None if following is None else replace(own, run=following)

    def _keep(self, tx: Transaction, connection: Connection, run: SyncRun, reading: Reading, page: Page) -> SyncRun:
        """A page: whatever it changed. Where the account was limited, the first list that answers ends that."""
        now = self.now()
        if not self._is_account(connection, reading) or len(self._plan(connection, run)) == 1:
            connection, facts = restore_access(connection)
            tx.outbox.append(connection.about, facts, now)
        tx.credentials.accept(connection.id)
        return self._go_on(tx, connection, self._step(tx, connection).keep(replace(run, failures=0), reading, page))

    def _leave(self, tx: Transaction, connection: Connection, run: SyncRun, reading: Reading, problem: str) -> SyncRun:
        run = self._step(tx, connection).leave(replace(run, failures=0), reading, problem)
        return self._go_on(tx, connection, run)

    def _go_on(self, tx: Transaction, connection: Connection, run: SyncRun) -> SyncRun:
        run = replace(run, lease_until=self.now() + run_lease)
        tx.runs.save(run)
        tx.connections.save(replace(connection, sync_due_at=run.lease_until), connection.generation)
        return run

    def _forbid(self, tx: Transaction, connection: Connection, run: SyncRun, reading: Reading) -> SyncRun | None:
        """A 403: for a list, that list alone; for the account, the plan, and then nothing else is asked for."""
        if not self._is_account(connection, reading):
            return self._leave(tx, connection, run, reading, "plan_required")
        tx.records.note_problem(connection.id, reading.key, "plan_required")
        self._limit(tx, connection, run)
        return None

    def _limit(self, tx: Transaction, connection: Connection, run: SyncRun) -> None:
        limited, facts = limit_access(connection)
        tx.outbox.append(connection.about, facts, self.now())
        self._fail(tx, limited, run, "plan_required", "the account's plan has no API access (403)", "plan_required")

    def _doubt(self, tx: Transaction, connection: Connection, run: SyncRun, generation: int) -> None:
        """A 401: with an old token, read on with the current one; with the current one, ask for one forced refresh.

        Where there is no refresh token the answer stands: the user took the token back.
        """
        now = self.now()
        credential = tx.credentials.get(connection.id)
        if credential is None:
            return
        if generation != connection.generation:
            self._park(tx, connection, run, now)
        elif credential.refresh_token is None:
            ended, facts = revoke(connection, "access_revoked", "api", now, f"/auth/{connection.provider}")
            tx.connections.save(ended, connection.generation)
            tx.credentials.put(replace(credential, access_token=None))
            tx.runs.end(connection.id, "access_revoked")
            tx.outbox.append(connection.about, facts, now)
            tx.journal.decide(connection.id, now, "revoked.access_revoked", generation=generation, status=401)
        elif asks_for_refresh(connection, credential, generation, now):
            tx.credentials.refuse(connection.id, generation, now)
            tx.journal.decide(connection.id, now, "access.refused", generation=generation, status=401)
            wait = replace(connection, refresh_due_at=now)
            self._park(tx, wait, run, now + retry_delay(3))
        else:
            waiting = replace(connection, problem="access_refused")
            self._park(tx, waiting, run, now + retry_delay(4))
        return

    def _stumble(
        self, tx: Transaction, connection: Connection, run: SyncRun, reading: Reading, failed: Failed
    ) -> SyncRun | None:
        """A failure is waited out a few times; then the list is left, and the run goes on and ends as failed.

        Without an answer for the account itself there is no use in going on.
        """
        run = replace(run, failures=run.failures + 1)
        if not gives_up(run):
            self._park(tx, connection, run, self.now() + (failed.retry_after or retry_delay(run.failures)))
            return None
        if self._is_account(connection, reading):
            self._fail(tx, connection, run, "provider_unavailable", failed.why, "sync_failing")
            return None
        description = run.description or f"{reading.key}: {failed.why}"
        given_up = replace(run, reason="provider_unavailable", description=description)
        return self._leave(tx, connection, given_up, reading, "unreadable")

    def _complete(self, tx: Transaction, connection: Connection, run: SyncRun) -> None:
        """The end of the plan. An account that answers while every list of it is forbidden is as limited as one that
        does not; a run that had to leave a list has failed, whatever else it brought."""
        now = self.now()
        lists = [reading for reading in self._plan(connection, run) if not self._is_account(connection, reading)]
        problems = tx.records.resource_problems(connection.id)
        if lists and all(problems.get(reading.key) == "plan_required" for reading in lists):
            self._limit(tx, connection, run)
        elif run.reason is not None:
            self._fail(tx, connection, run, run.reason, run.description or "", "sync_failing")
        else:
            duration_ms = round((now - run.started_at).total_seconds() * 1000)
            tx.runs.save(finish(run, now))
            tx.outbox.append(connection.about, [SyncCompleted(run.id, run.counts, duration_ms)], now)
            problem = "plan_required" if connection.access_limited else None
            planned = replace(self._plan_next(connection, run), last_synced_at=now, problem=problem)
            tx.connections.save(planned, connection.generation)

    def _fail(
        self, tx: Transaction, connection: Connection, run: SyncRun, reason: str, description: str, problem: str
    ) -> None:
        now = self.now()
        tx.runs.save(fail(run, reason, description, now))
        tx.outbox.append(connection.about, [SyncFailed(run.id, reason, description)], now)
        tx.journal.decide(connection.id, now, "sync.failed", reason=reason, description=description)
        tx.connections.save(replace(self._plan_next(connection, run), problem=problem), connection.generation)

    def _park(self, tx: Transaction, connection: Connection, run: SyncRun, until: datetime) -> None:
        """Lets go of the run until then: it waits as a row, not in a thread."""
        tx.runs.save(replace(run, lease_owner=None, lease_until=None, resume_at=until))
        tx.connections.save(replace(connection, sync_due_at=until), connection.generation)

    def _hand_on(self, own: Slice) -> bool:
        """The slice is over: the run goes back to the queue, behind all that waits there."""

        def let_go(tx: Transaction, connection: Connection, run: SyncRun) -> SyncRun:
            now = self.now()
            self._park(tx, connection, run, now)
            tx.connections.leave_sync_to_message(connection.id, now + on_its_way)
            return run

        return self._commit(own, None, let_go) is not None

    def _plan_next(self, connection: Connection, run: SyncRun) -> Connection:
        now = self.now()
        position = spread(connection.id, int(now.timestamp()))
        return plan_next(connection, run, self.providers[connection.provider].provider, self.interval, position, now)

    def _step(self, tx: Transaction, connection: Connection) -> Step:
        return Step(tx, self.providers[connection.provider].provider, connection, self.now())

    def _plan(self, connection: Connection, run: SyncRun) -> tuple[Reading, ...]:
        return plan_readings(self.providers[connection.provider].provider, connection.team_ids, run.depth)

    def _is_account(self, connection: Connection, reading: Reading) -> bool:
        return reading.path == self.providers[connection.provider].provider.account_path


def _must_wait(run: SyncRun, connection: Connection, now: datetime) -> bool:
    """Whether another job holds the run, or its time to go on has not come; a due time set since brings it forward."""
    if run.lease_until is not None and run.lease_until > now:
        return True
    due = connection.sync_due_at
    return run.resume_at is not None and run.resume_at > now and (due is None or due > now)
