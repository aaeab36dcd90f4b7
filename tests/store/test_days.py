"""History in days on a real PostgreSQL: made ahead, dropped without a deletion, by any number of schedulers."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from alembic import command
from sqlalchemy import event, text

from models.crypto.secrets import Secret
from models.errors import StoreUnavailable
from models.journal import Request
from models.messaging.events import ConnectionRefreshed
from models.migrations import alembic_config, migrate
from models.oauth.connection import Connection
from models.provider import Provider
from models.store import Store, open_engine
from models.store.days import Day, days_ahead, parents
from models.sync.sync_run import RunStatus, SyncRun, end, finish
from scheduler.days import DaysAhead, drop_days
from scheduler.prune import Prune
from tests.store.conftest import Opened, add_connection, noon

day = timedelta(days=1)
tables = tuple(parents)


@pytest.fixture
def database() -> str:
    """SQLite has no days."""
    return "postgresql"


def make_days(store: Store, first: datetime = noon) -> None:
    DaysAhead(store, lambda: first)()


def existing(store: Store) -> set[Day]:
    with store.reading() as tx:
        return {
            each for each in tx.days.existing() if each.date.year == noon.year and each.date < (noon + 90 * day).date()
        }


def count(store: Store, table: str) -> int:
    with store.reading() as tx:
        return int(tx.sql.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def partitions_of(store: Store, table: str) -> set[str]:
    """The partitions that have rows."""
    with store.reading() as tx:
        return set(tx.sql.execute(text(f"SELECT DISTINCT tableoid::regclass::text FROM {table}")).scalars())


def live_through(store: Store, connection: Connection, at: datetime, name: str = "") -> None:
    """Log a request, finish a run and publish an event, all at that time."""
    run = SyncRun(f"{connection.id}{at:%d%H%M%S}{name}", connection.id, RunStatus.running, at)
    with store.writing() as tx:
        tx.journal.log([Request(at, connection.id, "GET", "/me", 200, 12)])
        tx.outbox.append(connection.about, [ConnectionRefreshed(1, at)], at)
        tx.runs.add(run)
    with store.writing() as tx:
        tx.runs.save(finish(run, at))
    publish(store, at)


def publish(store: Store, at: datetime) -> int:
    with store.writing() as tx:
        waiting = tx.outbox.unpublished(["events", "records"], 1_000)
        tx.outbox.lease("test", at, at, [position for position, _ in waiting])
    return len(waiting)


@contextmanager
def counting_deletions(store: Store) -> Iterator[list[int]]:
    """Count the rows that statements of this store delete."""
    deleted = [0]

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE"):
            deleted[0] += cursor.rowcount

    event.listen(store.engine, "after_cursor_execute", note)
    yield deleted
    event.remove(store.engine, "after_cursor_execute", note)


def together(*jobs: Callable[[], object]) -> list[BaseException]:
    """Run the jobs at once and return what they raised."""
    barrier, errors = threading.Barrier(len(jobs)), list[BaseException]()

    def run(job: Callable[[], object]) -> None:
        barrier.wait()
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_days_are_made_before_they_begin_and_once(store: Store) -> None:
    make_days(store)
    dates = [(noon + ahead * day).date() for ahead in range(days_ahead + 1)]
    assert existing(store) == {Day(table, date) for table in tables for date in dates}
    make_days(store)
    make_days(store, noon + day)
    assert len(existing(store)) == len(tables) * (days_ahead + 2)


def test_what_is_over_goes_to_its_day_and_what_is_not_stays_apart(store: Store) -> None:
    make_days(store)
    connection = add_connection(store)
    live_through(store, connection, noon + day)
    with store.writing() as tx:
        tx.outbox.append(connection.about, [ConnectionRefreshed(2, noon)], noon)
        tx.runs.add(SyncRun("under way", connection.id, RunStatus.running, noon))
    assert partitions_of(store, "event") == {"event_live", "event_day_20260302"}
    assert partitions_of(store, "sync_run") == {"sync_run_live", "sync_run_day_20260302"}
    assert partitions_of(store, "request_batch") == {"request_batch_day_20260302"}
    with store.reading() as tx:
        assert tx.days.count_strays() == {}


def test_an_old_day_is_dropped_and_nothing_is_deleted(store: Store) -> None:
    make_days(store)
    connection = add_connection(store)
    for minute in range(20):
        live_through(store, connection, noon + minute * timedelta(minutes=1))
    live_through(store, connection, noon + day)
    with counting_deletions(store) as deleted:
        Prune(store, lambda: noon + 31 * day)()
    assert deleted == [0]
    assert {table: count(store, table) for table in tables} == dict.fromkeys(tables, 1)
    assert min(each.date for each in existing(store)) == (noon + day).date()


def test_an_unpublished_event_is_never_dropped(store: Store) -> None:
    make_days(store)
    connection = add_connection(store)
    with store.writing() as tx:
        tx.outbox.append(connection.about, [ConnectionRefreshed(1, noon)], noon)
    Prune(store, lambda: noon + 100 * day)()
    assert publish(store, noon + 100 * day) == 1
    Prune(store, lambda: noon + 129 * day)()
    assert count(store, "event") == 1
    Prune(store, lambda: noon + 131 * day)()
    assert count(store, "event") == 0


def test_a_replayed_event_leaves_its_day_and_is_kept(store: Store) -> None:
    make_days(store)
    live_through(store, add_connection(store), noon)
    with store.writing() as tx:
        assert tx.outbox.republish_since(noon - day, noon + 29 * day) == 1
    Prune(store, lambda: noon + 40 * day)()
    with store.reading() as tx:
        [(_, replayed)] = tx.outbox.unpublished(["events"], 10)
        assert tx.outbox.position_of(replayed.id) is not None


def test_the_newest_run_of_a_connection_outlives_its_day(store: Store) -> None:
    make_days(store)
    quiet, busy = add_connection(store), add_connection(store, "bob", "2")
    for connection in (quiet, busy):
        for minute in range(3):
            live_through(store, connection, noon + minute * timedelta(minutes=1))
    live_through(store, busy, noon + 2 * day)
    Prune(store, lambda: noon + 32 * day)()
    with store.reading() as tx:
        newest = tx.runs.newest(quiet.id)
        assert tx.days.count_strays() == {}
    assert newest is not None
    assert newest.started_at == noon + timedelta(minutes=2)
    assert count(store, "sync_run") == 2
    live_through(store, quiet, noon + 32 * day)
    Prune(store, lambda: noon + 32 * day)()
    with store.reading() as tx:
        assert tx.runs.newest(quiet.id) != newest
    assert count(store, "sync_run") == 2


def test_a_run_that_its_connection_ended_is_not_over(store: Store) -> None:
    connection = add_connection(store)
    run = SyncRun("a run", connection.id, RunStatus.running, noon)
    with store.writing() as tx:
        tx.runs.add(run)
        tx.runs.save(end(run, "revoked"))
    with store.writing() as tx:
        assert tx.runs.running(connection.id) is None
        tx.runs.add(replace(run, id="the next"))
    with store.reading() as tx:
        found = tx.runs.running(connection.id)
    assert found is not None
    assert found.id == "the next"


def test_rows_without_a_day_are_found_counted_and_moved(store: Store) -> None:
    connection = add_connection(store)
    for minute in range(3):
        live_through(store, connection, noon + minute * timedelta(minutes=1))
    make_days(store, noon - 10 * day)
    with store.reading() as tx:
        assert tx.days.count_strays() == dict.fromkeys(tables, 3)
        assert len(tx.journal.calls_of(connection.id)) == 3
    make_days(store)
    with store.reading() as tx:
        assert tx.days.count_strays() == {}
        assert len(tx.journal.calls_of(connection.id)) == 3
        assert [event.sequence for _, event in tx.outbox.read()] == [1, 2, 3]
    assert partitions_of(store, "event") == {"event_day_20260301"}


def test_rows_that_never_had_a_day_are_deleted_when_they_are_old(store: Store) -> None:
    connection = add_connection(store)
    for minute in range(3):
        live_through(store, connection, noon + minute * timedelta(minutes=1))
    Prune(store, lambda: noon + 31 * day)()
    assert {table: count(store, table) for table in tables} == {"event": 0, "request_batch": 0, "sync_run": 1}


def test_schedulers_at_once_make_and_drop_each_day_once(opened: Opened) -> None:
    stores = [opened.store, opened.other]
    assert together(*(lambda store=store: make_days(store) for store in stores)) == []
    make_days(opened.store)
    assert len(existing(opened.store)) == len(tables) * (days_ahead + 1)
    before = noon + 3 * day
    assert together(*(lambda store=store: drop_days(store, before) for store in stores)) == []
    drop_days(opened.store, before)
    assert {each.date for each in existing(opened.store)} == {(noon + ahead * day).date() for ahead in (3, 4, 5)}


def test_writers_go_on_while_days_are_made_and_dropped(opened: Opened) -> None:
    store, writer = opened.store, opened.other
    make_days(store, noon - 20 * day)
    connection = add_connection(store)
    live_through(store, connection, noon - 20 * day)
    done, lives = threading.Event(), [0]

    def write() -> None:
        while not done.is_set():
            live_through(writer, connection, noon + lives[0] * timedelta(seconds=1))
            lives[0] += 1

    def keep() -> None:
        try:
            make_days(store)
            make_days(store, noon + 6 * day)
            for ahead in range(-20, -10):
                drop_days(store, noon + ahead * day)
        finally:
            done.set()

    assert together(write, keep) == []
    assert lives[0] > 0
    make_days(store)
    assert {table: count(store, table) for table in tables} == dict.fromkeys(tables, lives[0])
    with store.reading() as tx:
        assert tx.days.count_strays() == {}


def test_a_day_that_someone_reads_is_dropped_later_and_no_writer_waits_for_it(opened: Opened) -> None:
    store, reader = opened.store, opened.other
    make_days(store)
    connection = add_connection(store)
    with reader.reading() as tx:
        tx.outbox.read()
        tx.journal.calls_of(connection.id)
        with pytest.raises(StoreUnavailable):
            drop_days(store, noon + 2 * day)
        live_through(store, connection, noon + 3 * day)
    assert len(existing(store)) == len(tables) * (days_ahead + 1) - 2
    drop_days(store, noon + 2 * day)
    assert min(each.date for each in existing(store)) == (noon + 2 * day).date()


def test_one_connection_has_one_run_under_way(store: Store) -> None:
    connection = add_connection(store)
    with store.engine.connect() as sql:
        names = sql.execute(text("SELECT indexdef FROM pg_indexes WHERE tablename = 'sync_run_live'")).scalars()
        assert any("UNIQUE" in each and "(connection_id) WHERE" in each for each in names)
    with store.reading() as tx:
        assert tx.runs.running(connection.id) is None


def test_an_upgrade_moves_what_is_there(empty_url: str, profile: Provider) -> None:
    engine = open_engine(Secret(empty_url))
    with engine.begin() as sql:
        config = alembic_config()
        config.attributes["connection"] = sql
        command.upgrade(config, "0018")
    store = Store(engine)
    connection = add_connection(store)
    for table in ("event", "sync_run"):
        with engine.begin() as sql:
            sql.execute(text(f"GRANT SELECT (id) ON {table} TO PUBLIC"))
    json = "jsonb NOT NULL DEFAULT '{}'"
    later = {"cursor": "text", "since": json, "parents": json}  # which today's code writes
    with engine.begin() as sql:
        for name, kind in later.items():
            sql.execute(text(f"ALTER TABLE sync_run ADD COLUMN {name} {kind}"))
    with store.reading() as tx:
        now = tx.overview.time()
    for ago in (50, 20, 0):
        live_through(store, connection, now - ago * day)
    with store.writing() as tx:
        tx.outbox.append(connection.about, [ConnectionRefreshed(2, now)], now)
        tx.runs.add(SyncRun("under way", connection.id, RunStatus.running, now))
    before = everything(store)
    with engine.begin() as sql:
        for name in later:
            sql.execute(text(f"ALTER TABLE sync_run DROP COLUMN {name}"))
    migrate(engine, [profile])
    assert everything(store) == before
    days = {f"event_day_{now - ago * day:%Y%m%d}" for ago in (20, 0)}
    assert partitions_of(store, "event") == {"event_live", "event_default", *days}
    assert publish(store, now) == 1
    with store.writing() as tx:
        tx.outbox.append(connection.about, [ConnectionRefreshed(3, now)], now)
        granted = text("SELECT has_column_privilege('public', 'event', 'id', 'SELECT')")
        assert tx.sql.execute(granted).scalar_one()
        assert [event.sequence for _, event in tx.outbox.read()] == [1, 2, 3, 4, 5]
        assert len(tx.sql.execute(text("SELECT at, method, path, status FROM request_log")).all()) == 3
    store.close()


def everything(store: Store) -> dict[str, list[Any]]:
    """All rows of the tables in days."""
    names = {"event": "position", "sync_run": "id", "request_batch": "position"}
    with store.reading() as tx:
        rows = {name: tx.sql.execute(text(f"SELECT * FROM {name} ORDER BY {key}")) for name, key in names.items()}
        return {name: [dict(row) for row in found.mappings()] for name, found in rows.items()}
