"""Reading a connection's resources, page by page: each page's records, cursor and events commit together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never
from uuid import uuid4

import structlog

from models.api_response import ApiOutcome, Failed, Forbidden, Missing, Page, Throttled, Unauthorized
from models.crypto.secrets import Secret
from models.crypto.vault import Place, Vault, VaultError
from models.errors import StoreRefused
from models.messaging import messages
from models.oauth.connection import Connection, Status
from models.rate_limit import Wait
from models.store import Store, Transaction
from models.sync.cadence import choose_depth
from models.sync.sync_run import (
    RunStatus,
    SyncRun,
    name_run,
    on_its_way,
    plan_lists,
    run_lease,
    slice_length,
)
from worker.provider.client import Called, ProviderClient
from worker.sync.step import Turns


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

    def _turns(self, now: datetime) -> Turns:
        return Turns(self.providers, now, self.interval)

    def __call__(self, connection_id: str, asked: bool = True, message_id: str | None = None) -> None:
        """Goes on with the connection's run, or begins one; `asked` for by somebody, or just because it is due.

        `message_id` is the message that asks, None where nothing can ask twice.
        """
        own = self._take(connection_id, asked, message_id)
        if own is None:
            return
        end = self.now() + self.slice_length
        going: Slice | None = own
        while going is not None and self.now() < end:
            going = self._read_one(going)
        if going is not None and self._hand_on(going):
            self.send(messages.read_connection(connection_id))
        self.send(messages.publish_events())

    def _take(self, connection_id: str, asked: bool = True, message_id: str | None = None) -> Slice | None:
        """Leases the connection's run, or begins one. What is asked for while one is under way runs after it; a message
        that has begun a run, and is delivered once more, asks for no other."""
        now, owner = self.now(), uuid4().hex
        run_id = None if message_id is None else name_run(connection_id, message_id)
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
            if run_id is not None and tx.runs.has(run_id):
                asked, run_id = False, None
            if run is not None and asked:
                tx.connections.note_request(connection_id)
                connection = replace(connection, sync_requested=True)
            if run is not None and _must_wait(run, connection, now):
                return None
            if run is None and not asked and not _is_due(connection, now):
                return None
            if run is None:
                depth = choose_depth(connection, asked or connection.sync_requested, now)
                run = SyncRun(run_id or uuid4().hex, connection_id, RunStatus.running, now, depth)
                tx.runs.add(run)
                connection = replace(connection, sync_requested=False)
            try:
                token = self.vault.open(credential.access_token, Place("credential", connection_id, "access_token"))
            except VaultError as error:
                self._turns(now).put_aside(tx, connection, run, error)
                return None
            run = replace(run, lease_owner=owner, lease_until=now + run_lease, resume_at=None)
            tx.runs.save(run)
            tx.connections.save(replace(connection, sync_due_at=now + run_lease), connection.generation)
        return Slice(run, connection, token, connection.generation)

    def _read_one(self, own: Slice) -> Slice | None:
        """Reads one page and commits it; None where this job is done with the run."""
        provider = self.providers[own.connection.provider]
        planned = plan_lists(provider.provider, own.connection.team_ids, own.run.depth)
        if own.run.place >= len(planned):
            return self._commit(own, None, Turns.complete)
        sync_list, page = planned[own.run.place], own.run.page
        resource = sync_list.resource if page else replace(sync_list.resource, query=sync_list.resource.peek)
        account_id = own.connection.account_id
        called = provider.read_page(resource, sync_list.path, max(page, 1), own.access_token, account_id)
        if isinstance(called, Wait):
            room_in = timedelta(seconds=called.seconds)
            return self._commit(own, None, lambda t, tx, c, r: t.park(tx, c, r, t.now + room_in))
        match called.outcome:
            case Page() as read:
                try:
                    return self._commit(own, called, lambda t, tx, c, r: t.keep(tx, c, r, sync_list, read))
                except StoreRefused as refused:
                    failed = Failed(str(refused))
                    return self._commit(own, called, lambda t, tx, c, r: t.stumble(tx, c, r, sync_list, failed))
            case Unauthorized():
                return self._commit(own, called, lambda t, tx, c, r: t.doubt(tx, c, r, sync_list, own.generation))
            case Forbidden():
                return self._commit(own, called, lambda t, tx, c, r: t.forbid(tx, c, r, sync_list))
            case Missing():
                return self._commit(own, called, lambda t, tx, c, r: t.leave(tx, c, r, sync_list, "not_found"))
            case Throttled(retry_after):
                return self._commit(own, called, lambda t, tx, c, r: t.park(tx, c, r, t.now + retry_after))
            case Failed() as failed:
                return self._commit(own, called, lambda t, tx, c, r: t.stumble(tx, c, r, sync_list, failed))
            case _:
                assert_never(called.outcome)

    def _commit(
        self,
        own: Slice,
        called: Called[ApiOutcome] | None,
        step: Callable[[Turns, Transaction, Connection, SyncRun], SyncRun | None],
    ) -> Slice | None:
        """One step of the run in one transaction, if this job still holds it and the connection still stands."""
        with self.store.writing() as tx:
            connection = tx.connections.lock(own.connection.id)
            run = tx.runs.running(own.connection.id)
            if called is not None:
                tx.journal.log(called.log_for(own.connection.id))
            if connection is None or connection.status is not Status.active or run is None:
                return None
            if run.id != own.run.id or run.lease_owner != own.run.lease_owner:
                return None
            following = step(self._turns(self.now()), tx, connection, run)
        return None if following is None else replace(own, run=following)

    def _hand_on(self, own: Slice) -> bool:
        """The slice is over: the run goes back to the queue, behind all that waits there."""

        def let_go(turns: Turns, tx: Transaction, connection: Connection, run: SyncRun) -> SyncRun:
            turns.park(tx, connection, run, turns.now)
            tx.connections.leave_sync_to_message(connection.id, turns.now + on_its_way)
            return run

        return self._commit(own, None, let_go) is not None


def _is_due(connection: Connection, now: datetime) -> bool:
    """A message may come late, when another one has done what it was for."""
    return connection.sync_due_at is not None and connection.sync_due_at <= now


def _must_wait(run: SyncRun, connection: Connection, now: datetime) -> bool:
    """Whether another job holds the run, or its time to go on has not come; a due time set since brings it forward."""
    if run.lease_until is not None and run.lease_until > now:
        return True
    due = connection.sync_due_at
    return run.resume_at is not None and run.resume_at > now and (due is None or due > now)
