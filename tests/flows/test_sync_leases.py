"""A sync that no one asked for: leased in its connection's row, and stored with the first thing that it writes."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from models.oauth.connection import Connection, Status
from models.store.connections import table as connections
from models.store.requested_sync import request_sync
from models.store.sync_runs import table as runs
from models.sync.sync_run import RunStatus, SyncLease, SyncRun, finish, run_lease
from tests.flows.between import before_page, between, listed, slowly, stored
from tests.harness import House
from worker.sync.slice import Slice


@pytest.fixture
def house(house_for_all: House) -> House:
    between(house_for_all, lambda *_: None)
    return house_for_all


@pytest.fixture
def connection(house: House) -> Connection:
    """A connection that was read once, and whose full sync is due."""
    account = house.control.add_user("Ida", documents=3)
    connection = house.connect(f"user-{account}", account)
    house.work()
    house.turn(minutes=70)
    house.queue.held.clear()
    return connection


def account_of(connection: Connection) -> int:
    return int(connection.account_id)


def take(house: House, connection: Connection) -> Slice:
    own = house.flows.sync.take(connection.id, asked=False)
    assert own is not None
    return own


def read(house: House, own: Slice | None) -> None:
    """Read the run to its end, or until the job finds that it is not its own."""
    while own is not None:
        own = house.flows.sync.step(own)


def running(house: House, connection: Connection) -> SyncRun | None:
    with house.store.reading() as tx:
        return tx.runs.running(connection.id)


def lease_of(house: House, connection: Connection) -> SyncLease | None:
    with house.store.reading() as tx:
        return tx.runs.under_way(connection.id)[1]


def count_runs(house: House, connection: Connection) -> int:
    with house.store.reading() as tx:
        query = select(func.count()).select_from(runs).where(runs.c.connection_id == connection.id)
        return int(tx.sql.execute(query).scalar_one())


def is_due(house: House, connection: Connection) -> bool:
    due_at = house.connection(connection.id).sync_due_at
    return due_at is not None and due_at <= house.clock()


def all_told(house: House, connection: Connection) -> list[str]:
    return [event["type"] for event in house.told(connection_id=connection.id)]


def test_a_run_that_finds_nothing_is_stored_once_when_it_ends(house: House, connection: Connection) -> None:
    told, before = all_told(house, connection), count_runs(house, connection)
    own = take(house, connection)
    until = own.at + run_lease
    assert lease_of(house, connection) == SyncLease(str(own.run.lease_owner), until, until)
    assert (running(house, connection), count_runs(house, connection)) == (None, before)
    assert is_due(house, connection), "a worker that dies leaves it so"
    house.turn(seconds=1)
    read(house, own)
    with house.store.reading() as tx:
        newest = tx.runs.newest(connection.id)
    assert newest is not None
    assert (newest.id, newest.status, newest.depth) == (own.run.id, RunStatus.completed, "full")
    assert newest.started_at == own.at
    assert newest.finished_at == house.connection(connection.id).last_synced_at
    assert newest.counts["document"]["unchanged"] == 3
    assert (lease_of(house, connection), is_due(house, connection)) == (None, False)
    assert (count_runs(house, connection), all_told(house, connection)) == (before + 1, told)


def test_a_page_with_a_change_stores_the_run_and_a_later_job_continues_it(house: House, connection: Connection) -> None:
    [added] = house.control.add_documents(account_of(connection), 1)
    between(house, slowly(house))
    own: Slice | None = take(house, connection)
    while own is not None and not own.is_stored:
        own = house.flows.sync.step(own)
    assert own is not None
    found = running(house, connection)
    assert found is not None
    assert found == own.run
    assert lease_of(house, connection) is None
    house.turn(seconds=46)
    again = take(house, connection)
    assert (again.run.id, again.run.place, again.is_stored) == (own.run.id, own.run.place, True)
    read(house, again)
    assert running(house, connection) is None
    created = [(each["resource"], each["external_id"]) for each in house.told("record.created", connection.id)]
    assert ("document", str(added)) in created
    assert len(set(created)) == len(created)


def test_pages_before_the_first_change_are_stored_with_the_run(house: House, connection: Connection) -> None:
    account = account_of(connection)
    house.control.add_documents(account, 22)
    house.flows.sync(connection.id)
    house.work()
    house.turn(minutes=70)
    house.control.edit_document(account, listed(house, account)[12], "Changed")
    own: Slice | None = take(house, connection)
    while own is not None and not own.is_stored:
        own = house.flows.sync.step(own)
    assert own is not None
    with house.store.reading() as tx:
        assert [page.seen.page for page in tx.runs.pages(own.run.id)()] == [1, 2]
    read(house, own)
    changed = house.told("record.updated", connection.id)
    assert [each["resource"] for each in changed] == ["document"]


def test_a_job_whose_lease_ran_out_writes_nothing(house: House, connection: Connection) -> None:
    house.control.add_documents(account_of(connection), 1)
    late = take(house, connection)
    house.turn(seconds=44)
    assert house.flows.sync.take(connection.id, asked=False) is None, "not before its lease is over"
    house.turn(seconds=2)
    other = take(house, connection)
    told = all_told(house, connection)
    read(house, late)
    assert (running(house, connection), all_told(house, connection)) == (None, told)
    read(house, other)
    assert stored(house, connection.id) == set(listed(house, account_of(connection)))
    created = all_told(house, connection)[len(told) :].count("record.created")
    read(house, late)
    assert all_told(house, connection)[len(told) :].count("record.created") == created


def begin_as_before(house: House, connection: Connection) -> SyncRun:
    """What a worker of the release before does when it takes the sync: it knows no lease in the connection's row."""
    now = house.clock()
    run = SyncRun(f"old-{connection.id}", connection.id, RunStatus.running, now)
    with house.store.writing() as tx:
        tx.runs.add(replace(run, lease_owner="old", lease_until=now + run_lease + timedelta(seconds=1)))
        own = update(connections).where(connections.c.id == connection.id)
        tx.sql.execute(own.values(sync_claimed_until=now + run_lease + timedelta(seconds=1)))
    return run


def begin_and_end_as_before(house: House, connection: Connection) -> None:
    run, now = begin_as_before(house, connection), house.clock()
    with house.store.writing() as tx:
        tx.runs.save(finish(run, now))
        own = update(connections).where(connections.c.id == connection.id)
        tx.sql.execute(own.values(sync_claimed_until=None, sync_due_at=now + timedelta(minutes=15)))


@pytest.mark.parametrize("overtake", [begin_as_before, begin_and_end_as_before], ids=["it begins one", "and ends it"])
@pytest.mark.parametrize("changed", [True, False], ids=["something new", "nothing new"])
def test_a_run_of_an_earlier_release_s_worker_takes_the_place_of_ours(
    house: House, connection: Connection, overtake: Callable[[House, Connection], object], changed: bool
) -> None:
    own, before = take(house, connection), stored(house, connection.id)
    if changed:
        house.control.add_documents(account_of(connection), 1)
    told = all_told(house, connection)
    overtake(house, connection)
    found, planned, count = running(house, connection), house.connection(connection.id), count_runs(house, connection)
    read(house, own)
    assert (stored(house, connection.id), all_told(house, connection)) == (before, told)
    assert (running(house, connection), house.connection(connection.id)) == (found, planned)
    assert count_runs(house, connection) == count


def ask_by_row(house: House, connection: Connection) -> None:
    with house.store.writing() as tx:
        assert request_sync(tx, connection.id, house.clock())


def ask_by_message(house: House, connection: Connection) -> None:
    house.flows.sync(connection.id, message_id="m1")


@pytest.mark.parametrize("ask", [ask_by_row, ask_by_message])
def test_a_request_during_it_leads_to_one_more_run_after_it(
    house: House, connection: Connection, ask: Callable[[House, Connection], None]
) -> None:
    before = count_runs(house, connection)
    before_page(house, "/documents", 1, lambda: ask(house, connection))
    house.flows.sync(connection.id, asked=False)
    assert count_runs(house, connection) == before + 1
    assert house.connection(connection.id).sync_requested
    house.sweep()
    with house.store.reading() as tx:
        newest, first = tx.runs.newest_of(connection.id, 2)
    assert (count_runs(house, connection), newest.requested, first.requested) == (before + 2, True, False)
    assert not house.connection(connection.id).sync_requested


@pytest.mark.parametrize("ask", [ask_by_row, ask_by_message])
def test_a_request_after_a_run_of_an_earlier_release_is_carried_out_at_once(
    house: House, connection: Connection, ask: Callable[[House, Connection], None]
) -> None:
    take(house, connection)
    begin_and_end_as_before(house, connection)
    ask(house, connection)
    house.sweep()
    with house.store.reading() as tx:
        newest = tx.runs.newest(connection.id)
    assert newest is not None
    assert (newest.requested, newest.status) == (True, RunStatus.completed)
    assert not house.connection(connection.id).sync_requested


def disconnect(house: House, connection: Connection) -> None:
    house.flows.disconnect(connection.id)


def connect_again(house: House, connection: Connection) -> None:
    house.flows.disconnect(connection.id)
    house.connect(connection.user_id, account_of(connection))


@pytest.mark.parametrize("end", [disconnect, connect_again])
def test_a_connection_that_ends_during_it_is_not_written(
    house: House, connection: Connection, end: Callable[[House, Connection], None]
) -> None:
    house.control.add_documents(account_of(connection), 1)
    own, before, count = take(house, connection), stored(house, connection.id), count_runs(house, connection)
    end(house, connection)
    ended = house.connection(connection.id)
    told = all_told(house, connection)
    read(house, own)
    assert (stored(house, connection.id), all_told(house, connection)) == (before, told)
    assert (house.connection(connection.id), count_runs(house, connection)) == (ended, count)
    assert lease_of(house, connection) is None
    if ended.status is Status.active:
        house.work()
        assert stored(house, connection.id) == set(listed(house, account_of(connection)))


def test_a_refresh_during_it_leaves_it_its_lease(house: House, connection: Connection) -> None:
    house.make_refresh_due(connection.id)
    house.flows.refresh(connection.id)  # which learns what the client may send
    own, before = take(house, connection), house.connection(connection.id).generation
    with house.store.writing() as tx:
        assert tx.connections.make_refresh_due(connection.id, house.clock())
    house.flows.refresh(connection.id)
    assert house.connection(connection.id).generation == before + 1
    read(house, own)
    found = running(house, connection)
    assert found is not None, "its 401, for the token before, makes it wait for the next job"
    assert found.id == own.run.id
    house.sweep()
    assert (running(house, connection), is_due(house, connection)) == (None, False)
