"""Reading a connection's resources, page by page: each page's records, cursor and events commit together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never
from uuid import uuid4

from models import messages
from models.budget import Wait
from models.connection import Connection, Status, limit_access, restore_access
from models.credential import asks_for_refresh
from models.events import RecordChanged, SyncCompleted, SyncFailed
from models.page import Failed, Forbidden, Missing, Page, Throttled, Unauthorized
from models.records import compare, read_item
from models.refresh_policy import spread
from models.secrets import Secret
from models.store import Store, Transaction
from models.store.journal import Request
from models.sync_run import (
    PageSeen,
    Reading,
    SyncRun,
    add_counts,
    fail,
    find_gone,
    finish,
    is_whole,
    most_failures,
    most_rereads,
    on_its_way,
    plan_readings,
    retry_delay,
    run_lease,
    slice_length,
)
from models.vault import Place, Vault
from worker.provider_client import Called, ProviderClient


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

    def __call__(self, connection_id: str) -> None:
        own = self._take(connection_id)
        if own is None:
            return
        end = self.now() + self.slice_length
        going: Slice | None = own
        while going is not None and self.now() < end:
            going = self._read_one(going)
        if going is not None and self._hand_on(going):
            self.send(messages.sync_connection(connection_id))
        self.send(messages.publish_events())

    def _take(self, connection_id: str) -> Slice | None:
        """Leases the connection's run, or begins one. While another job reads, one more run is noted instead."""
        now, owner = self.now(), uuid4().hex
        with self.store.writing() as tx:
            connection = tx.connections.lock(connection_id)
            if connection is None or connection.status is not Status.active:
                return None
            credential = tx.credentials.get(connection_id)
            if credential is None or credential.access_token is None:
                return None
            run = tx.runs.running(connection_id)
            if run is not None and run.lease_until is not None and run.lease_until > now:
                tx.connections.save(replace(connection, sync_requested=True), connection.generation)
                return None
            if run is not None and run.resume_at is not None and run.resume_at > now:
                return None
            if run is None:
                run = SyncRun(uuid4().hex, connection_id, "running", now)
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
        readings = plan_readings(provider.provider, own.connection.team_ids)
        if own.run.place >= len(readings):
            return self._commit(own, None, self._complete)
        reading = readings[own.run.place]
        account_id = own.connection.account_id
        called = provider.read_page(reading.resource, reading.path, own.run.page, own.access_token, account_id)
        if isinstance(called, Wait):
            room_in = timedelta(seconds=called.seconds)
            return self._commit(own, None, lambda tx, c, r: self._park(tx, c, r, self.now() + room_in))
        match called.outcome:
            case Page() as page:
                last_of_resource = self._is_last_of_resource(readings, own.run.place)
                return self._commit(
                    own, called, lambda tx, c, r: self._apply(tx, c, r, reading, page, last_of_resource)
                )
            case Unauthorized():
                return self._commit(own, called, lambda tx, c, r: self._doubt(tx, c, r, own.generation))
            case Forbidden():
                return self._commit(own, called, lambda tx, c, r: self._skip(tx, c, r, reading, "plan_required"))
            case Missing():
                return self._commit(own, called, lambda tx, c, r: self._skip(tx, c, r, reading, "not_found"))
            case Throttled(retry_after):
                return self._commit(own, called, lambda tx, c, r: self._pause(tx, c, r, retry_after))
            case Failed() as failed:
                return self._commit(own, called, lambda tx, c, r: self._stumble(tx, c, r, failed))
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

    def _apply(
        self,
        tx: Transaction,
        connection: Connection,
        run: SyncRun,
        reading: Reading,
        page: Page,
        last_of_resource: bool,
    ) -> SyncRun:
        now, name = self.now(), reading.resource.name
        read = (read_item(raw, reading.resource.id, reading.resource.volatile) for raw in page.elements)
        items = [item for item in read if item is not None]
        known = tx.records.known(connection.id, name, [item.external_id for item in items])
        changes = compare(known, items)
        initial = not tx.records.was_read_before(connection.id, name)
        tx.records.write(connection.id, name, changes, known, now)
        facts = [RecordChanged(c.kind, name, c.item.external_id, c.fields, initial) for c in changes]
        tx.outbox.append(connection.about, facts, now)
        tally = {kind: sum(c.kind == kind for c in changes) for kind in ("created", "updated")}
        tally["unchanged"] = len(items) - len(changes)
        run = replace(run, counts=add_counts(run.counts, name, tally), failures=0, lease_until=now + run_lease)
        seen = PageSeen(page.number, page.total, page.last, tuple(item.external_id for item in items))
        tx.runs.note_page(run.id, run.place, seen)
        run = self._turn_page(tx, connection, run, page, name, last_of_resource)
        connection = self._restore(tx, connection, now)
        tx.credentials.accept(connection.id)
        tx.runs.save(run)
        tx.connections.save(replace(connection, sync_due_at=now + run_lease), connection.generation)
        return run

    def _turn_page(
        self, tx: Transaction, connection: Connection, run: SyncRun, page: Page, name: str, last_of_resource: bool
    ) -> SyncRun:
        """The next page, or the next list; what a whole reading did not see is gone, a torn one is read again."""
        if page.number < page.last:
            return replace(run, page=run.page + 1)
        if not is_whole(tx.runs.pages_of(run.id, run.place)):
            if run.rereads < most_rereads:
                tx.runs.drop_pages(run.id, run.place)
                return replace(run, page=1, rereads=run.rereads + 1)
            tx.runs.note_torn(run.id, run.place)
        if last_of_resource:
            run = self._mark_gone(tx, connection, run, name)
        return replace(run, place=run.place + 1, page=1, rereads=0)

    def _mark_gone(self, tx: Transaction, connection: Connection, run: SyncRun, name: str) -> SyncRun:
        now = self.now()
        readings = plan_readings(self.providers[connection.provider].provider, connection.team_ids)
        places = [place for place, reading in enumerate(readings) if reading.resource.name == name]
        lists = [tx.runs.pages_of(run.id, place) for place in places]
        if not all(is_whole(pages) for pages in lists):
            return run
        gone = find_gone(tx.records.living_ids(connection.id, name), [page for pages in lists for page in pages])
        if gone:
            tx.records.mark_deleted(connection.id, name, gone, now)
            facts = [RecordChanged("deleted", name, external_id, (), False) for external_id in gone]
            tx.outbox.append(connection.about, facts, now)
        tx.records.note_read(connection.id, name, now)
        return replace(run, counts=add_counts(run.counts, name, {"deleted": len(gone)}))

    def _complete(self, tx: Transaction, connection: Connection, run: SyncRun) -> None:
        now = self.now()
        duration_ms = round((now - run.started_at).total_seconds() * 1000)
        tx.runs.save(finish(run, now))
        tx.outbox.append(connection.about, [SyncCompleted(run.id, run.counts, duration_ms)], now)
        problem = "plan_required" if connection.access_limited else None
        self._schedule(tx, replace(connection, last_synced_at=now, problem=problem), now)

    def _doubt(self, tx: Transaction, connection: Connection, run: SyncRun, generation: int) -> None:
        """A 401: with an old token, read on with the current one; with the current one, ask for one forced refresh."""
        now = self.now()
        credential = tx.credentials.get(connection.id)
        if credential is None:
            return
        if generation != connection.generation:
            self._park(tx, connection, run, now)
        elif asks_for_refresh(connection, credential, generation, now):
            tx.credentials.refuse(connection.id, generation, now)
            tx.journal.decide(connection.id, now, "access.refused", generation=generation, status=401)
            wait = replace(connection, refresh_due_at=now)
            self._park(tx, wait, run, now + retry_delay(3))
        else:
            waiting = replace(connection, problem="access_refused")
            self._park(tx, waiting, run, now + retry_delay(4))
        return

    def _skip(self, tx: Transaction, connection: Connection, run: SyncRun, reading: Reading, problem: str) -> SyncRun:
        """This list can't be read by this account; nothing of it counts as gone."""
        now = self.now()
        tx.records.note_problem(connection.id, reading.resource.name, problem)
        if problem == "plan_required" and reading.path == self.providers[connection.provider].provider.account_path:
            connection, facts = limit_access(connection)
            tx.outbox.append(connection.about, facts, now)
        run = replace(run, place=run.place + 1, page=1, rereads=0, failures=0, lease_until=now + run_lease)
        tx.runs.save(run)
        tx.connections.save(replace(connection, sync_due_at=now + run_lease), connection.generation)
        return run

    def _restore(self, tx: Transaction, connection: Connection, now: datetime) -> Connection:
        restored, facts = restore_access(connection)
        tx.outbox.append(connection.about, facts, now)
        return restored

    def _pause(self, tx: Transaction, connection: Connection, run: SyncRun, retry_after: timedelta) -> None:
        self._park(tx, connection, run, self.now() + retry_after)

    def _stumble(self, tx: Transaction, connection: Connection, run: SyncRun, failed: Failed) -> None:
        now = self.now()
        run = replace(run, failures=run.failures + 1)
        if run.failures < most_failures:
            self._park(tx, connection, run, now + (failed.retry_after or retry_delay(run.failures)))
            return
        tx.runs.save(fail(run, "provider_unavailable", failed.why, now))
        tx.outbox.append(connection.about, [SyncFailed(run.id, "provider_unavailable", failed.why)], now)
        tx.journal.decide(connection.id, now, "sync.failed", reason=failed.why)
        self._schedule(tx, replace(connection, problem="sync_failing"), now)

    def _park(self, tx: Transaction, connection: Connection, run: SyncRun, until: datetime) -> None:
        """Lets go of the run until then: it waits as a row, not in a thread."""
        tx.runs.save(replace(run, lease_owner=None, lease_until=None, resume_at=until))
        tx.connections.save(replace(connection, sync_due_at=until), connection.generation)

    def _schedule(self, tx: Transaction, connection: Connection, now: datetime) -> None:
        """The next run: at once where one was asked for meanwhile, else after the interval, spread by a tenth."""
        position = spread(connection.id, int(now.timestamp()))
        later = now + self.interval * (0.95 + 0.1 * position)
        due = now if connection.sync_requested else later
        tx.connections.save(replace(connection, sync_due_at=due, sync_requested=False), connection.generation)

    def _hand_on(self, own: Slice) -> bool:
        """The slice is over: the run goes back to the queue."""

        def let_go(tx: Transaction, connection: Connection, run: SyncRun) -> SyncRun:
            now = self.now()
            self._park(tx, connection, run, now)
            tx.connections.leave_sync_to_message(connection.id, now + on_its_way)
            return run

        return self._commit(own, None, let_go) is not None

    @staticmethod
    def _is_last_of_resource(readings: tuple[Reading, ...], place: int) -> bool:
        name = readings[place].resource.name
        return all(reading.resource.name != name for reading in readings[place + 1 :])
