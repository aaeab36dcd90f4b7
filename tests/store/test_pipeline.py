"""Statements that share a round trip on PostgreSQL, and what becomes of them if one fails or the connection is lost."""

import ctypes
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC
from typing import Any

import psycopg
import pytest
from psycopg.errors import AdminShutdown
from sqlalchemy import (
    Boolean,
    DateTime,
    Integer,
    Text,
    bindparam,
    column,
    func,
    insert,
    literal,
    not_,
    select,
    table,
    text,
    update,
)
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import cast as cast_to
from sqlalchemy.exc import DBAPIError

from models.errors import StoreConflict, StoreRefused, StoreUnavailable
from models.store import Store
from models.store.driver import begin_again, end, has_settings, pipeline_of
from models.store.pipeline import Pipeline
from models.store.statement import Statement
from tests.databases import open_fast_engine
from tests.servers import Postgres, wait_until
from tests.statements import counting_statements

things = table("thing", column("id", Integer), column("name", Text))
_named = cast_to(bindparam("own_name"), Text)
add = Statement(insert(things).inline(), ("id", "name"))
rename = Statement(update(things).where(things.c.id == bindparam("own_id")), ("name",))
find = Statement(select(things.c.name).where(things.c.id == bindparam("own_id")).with_for_update())
count = Statement(select(func.count()).select_from(things))
divide = Statement(select(literal(1) / cast_to(bindparam("by"), Integer)))
locks = table("pg_locks", column("pid", Integer), column("granted", Boolean))
count_waiting = Statement(
    select(func.count()).select_from(locks).where(locks.c.pid == bindparam("pid"), not_(locks.c.granted))
)
ask_time = Statement(select(cast_to(func.now(), DateTime(timezone=True))))
echo = Statement(select(_named, func.length(_named)))


@pytest.fixture(scope="module")
def url(postgres: Postgres) -> Iterator[str]:
    address = postgres.create_database()
    yield address
    postgres.drop_database(address)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """A store with a table of things, the name of each of which must be its own once its transaction ends."""
    opened = Store(open_fast_engine(url))
    with opened.engine.begin() as sql:
        sql.execute(text("DROP TABLE IF EXISTS thing"))
        unique = "UNIQUE (name) DEFERRABLE INITIALLY DEFERRED"
        sql.execute(text(f"CREATE TABLE thing (id integer PRIMARY KEY, name text, {unique})"))
    yield opened
    opened.close()


def names(store: Store) -> list[str]:
    with store.reading() as tx:
        return list(tx.sql.execute(text("SELECT name FROM thing ORDER BY id")).scalars())


def test_a_transaction_of_two_statements_is_two_round_trips(store: Store) -> None:
    with counting_statements(store.engine) as sent, store.writing() as tx:
        add.run(tx.sql, id=1, name="one")
        tx.appends.write(rename, own_id=1, name="first")
    assert (sent.trips, sent.commits, len(sent.statements)) == (2, 1, 2), str(sent)
    assert names(store) == ["first"]


def test_a_statement_goes_with_the_next_one_and_gives_its_rows_after_the_transaction(store: Store) -> None:
    with store.writing() as tx:
        add.run(tx.sql, id=1, name="one")
    with counting_statements(store.engine) as sent, store.writing() as tx:
        found = find.put(tx.sql, own_id=1)
        renamed = rename.put(tx.sql, own_id=1, name="first")
        missed = rename.put(tx.sql, own_id=2, name="second")
    assert (found.all(), renamed.count, missed.count) == ([("one",)], 1, 0)
    assert (sent.trips, sent.commits) == (1, 1), str(sent)
    assert names(store) == ["first"]


def test_whoever_asks_for_the_rows_sends_the_statement(store: Store) -> None:
    with store.writing() as tx:
        added = add.put(tx.sql, id=1, name="one")
        assert added.count == 1
        # SQLAlchemy's own statement finds what was put before it.
        rename.put(tx.sql, own_id=1, name="first")
        assert tx.sql.execute(text("SELECT name FROM thing")).scalar() == "first"


@pytest.mark.parametrize("by", ["store", "SQLAlchemy", "hand"])
def test_whoever_commits_sends_the_statement(store: Store, by: str) -> None:
    if by == "SQLAlchemy":
        with store.engine.begin() as sql:
            added = add.put(sql, id=1, name="one")
    else:
        with store.writing() as tx:
            added = add.put(tx.sql, id=1, name="one")
            if by == "hand":
                tx.sql.commit()
    assert (added.count, names(store)) == (1, ["one"])


def test_a_read_gives_its_rows_after_the_transaction(store: Store) -> None:
    with store.reading() as tx:
        found = count.put(tx.sql)
        added = add.put(tx.sql, id=1, name="one")
    assert (found.all(), added.count) == ([(0,)], 1)
    assert names(store) == []


def test_a_statement_outside_of_a_transaction_waits_for_no_other_one(store: Store) -> None:
    store.read_once(lambda tx: count.put(tx.sql))
    with counting_statements(store.engine) as sent:
        assert store.read_once(lambda tx: count.put(tx.sql)).all() == [(0,)]
        assert store.read_once(lambda tx: count.scalar(tx.sql)) == 0
    assert (sent.trips, len(sent.statements)) == (2, 2), str(sent)


def test_a_transaction_that_sends_nothing_is_no_round_trip(store: Store) -> None:
    names(store)
    with counting_statements(store.engine) as sent, store.writing():
        pass
    assert (sent.trips, sent.commits) == (0, 0), str(sent)
    with store.engine.connect() as sql:
        assert count.scalar(sql) == 0


@pytest.mark.parametrize("place", ["first", "later", "put", "with the commit"])
def test_what_fails_takes_its_transaction_back(store: Store, place: str) -> None:
    def fail() -> None:
        with store.writing() as tx:
            if place != "first":
                add.run(tx.sql, id=1, name="one")
            if place == "put":
                divide.put(tx.sql, by=0)
                add.run(tx.sql, id=2, name="two")
            elif place == "with the commit":
                tx.appends.write(divide, by=0)
            else:
                divide.all(tx.sql, by=0)

    with pytest.raises(StoreRefused) as caught:
        fail()
    refused = caught.value.__cause__
    assert isinstance(refused, DBAPIError)
    assert refused.statement == divide.prepare("postgresql").text
    assert names(store) == []


def test_a_transaction_is_not_taken_for_committed_if_a_failure_was_let_pass(store: Store) -> None:
    def let_pass() -> None:
        with store.writing() as tx:
            add.run(tx.sql, id=1, name="one")
            with suppress(DBAPIError):
                divide.all(tx.sql, by=0)

    with pytest.raises(StoreRefused):
        let_pass()
    assert names(store) == []
    with store.writing() as tx:
        with suppress(DBAPIError), tx.sql.begin_nested():
            divide.all(tx.sql, by=0)
        add.run(tx.sql, id=1, name="one")
    assert names(store) == ["one"]


def test_what_an_operator_has_to_mend_is_waited_out(store: Store) -> None:
    """A missing table or privilege is the fault of no application and no provider, whatever they sent."""
    with pytest.raises(StoreUnavailable, match="lacks tables"), store.writing() as tx:
        tx.sql.execute(text("SELECT FROM nothing_like_it"))
    with store.writing() as tx:
        tx.sql.execute(text("CREATE ROLE pauper"))
    with pytest.raises(StoreUnavailable, match="no privilege"), store.writing() as tx:
        add_as_pauper(tx.sql)
    with store.writing() as tx:
        tx.sql.execute(text("DROP ROLE pauper"))


def add_as_pauper(sql: SqlConnection) -> None:
    sql.execute(text("SET LOCAL ROLE pauper"))
    add.run(sql, id=1, name="one")


run_later: dict[str, Callable[[SqlConnection], object]] = {
    "run": lambda sql: add.run(sql, id=2, name="second"),
    "put": lambda sql: add.put(sql, id=2, name="second"),
    "built where it is used": lambda sql: sql.execute(text("INSERT INTO thing VALUES (2, 'second')")),
}


@pytest.mark.parametrize("how", run_later)
def test_nothing_runs_without_its_transaction_after_that_was_committed(store: Store, how: str) -> None:
    """It would hold no lock, and stay whatever becomes of the rest."""
    with store.writing() as tx:
        add.put(tx.sql, id=1, name="first")
        end(tx.sql)
        with pytest.raises(AssertionError, match="committed before its last statement"):
            run_later[how](tx.sql)
    assert names(store) == ["first"]
    with store.writing() as tx:
        add.run(tx.sql, id=3, name="third")
    assert names(store) == ["first", "third"]


@pytest.mark.parametrize("goes_on", [True, False])
def test_after_a_commit_another_transaction_begins_only_if_it_is_asked_to(store: Store, goes_on: bool) -> None:
    with suppress(ZeroDivisionError), store.writing() as tx:
        add.put(tx.sql, id=1, name="first")
        end(tx.sql)
        begin_again(tx.sql)
        add.run(tx.sql, id=2, name="second")
        if not goes_on:
            raise ZeroDivisionError
    assert names(store) == (["first", "second"] if goes_on else ["first"])


def test_a_commit_that_fails_with_the_last_statement_is_a_conflict(store: Store) -> None:
    with store.writing() as tx:
        add.run(tx.sql, id=1, name="one")
    with pytest.raises(StoreConflict), store.writing() as tx:
        tx.appends.write(add, id=2, name="one")
    assert names(store) == ["one"]


def test_a_deadlock_is_a_conflict_of_one_of_the_two(store: Store) -> None:
    both_hold = threading.Barrier(2, timeout=20)
    failed: list[StoreConflict] = []

    def rename_both(first: int, second: int) -> None:
        try:
            with store.writing() as tx:
                tx.sql.execute(text("SET LOCAL deadlock_timeout = '10ms'"))
                rename.run(tx.sql, own_id=first, name=f"{first} then {second}")
                both_hold.wait()
                rename.run(tx.sql, own_id=second, name=f"{second} after {first}")
        except StoreConflict as error:
            failed.append(error)

    with store.writing() as tx:
        add.run(tx.sql, id=1, name="one")
        add.run(tx.sql, id=2, name="two")
    other = threading.Thread(target=rename_both, args=(2, 1))
    other.start()
    rename_both(1, 2)
    other.join()
    assert len(failed) == 1
    assert names(store) in (["1 then 2", "2 after 1"], ["1 after 2", "2 then 1"])


def test_an_error_does_not_say_what_the_values_are(store: Store) -> None:
    with store.writing() as tx:
        add.run(tx.sql, id=1, name="one")
    with pytest.raises(StoreConflict) as caught, store.writing() as tx:
        add.run(tx.sql, id=1, name="a secret")
    causes: list[BaseException | None] = [caught.value]
    while causes[-1] is not None:
        causes.append(causes[-1].__cause__)
    assert "secret" not in "".join(f"{each!r} {each}" for each in causes)


def test_a_value_that_can_not_be_sent_leaves_the_transaction_as_it_was(store: Store) -> None:
    with store.writing() as tx:
        add.run(tx.sql, id=1, name="one")
        with pytest.raises(Exception, match="NUL"):
            add.run(tx.sql, id=2, name="a\0b")
        add.run(tx.sql, id=3, name="three")
    assert names(store) == ["one", "three"]


@pytest.mark.parametrize("length", [0, 1, 200_000, 20_000_000])
def test_a_value_of_any_length_goes_and_comes_back(store: Store, length: int) -> None:
    with store.reading() as tx:
        assert echo.all(tx.sql, own_name="é" * length) == [("é" * length, length)]


def test_times_are_in_utc_behind_a_pooler_as_well(store: Store) -> None:
    """COMMIT ends the settings that went with BEGIN, and the time zone of the role holds when the rows are read."""
    with store.engine.begin() as sql:
        sql.execute(text("SET timezone = 'Asia/Tokyo'"))
        sql.info.pop(has_settings)
    with store.writing() as tx:
        found = ask_time.put(tx.sql)
    assert found.all()[0][0].tzinfo == UTC


def test_a_table_that_was_made_again_is_found_by_a_prepared_statement(store: Store) -> None:
    with store.engine.connect() as sql:
        for _ in range(3):
            assert count.scalar(sql) == 0
        sql.rollback()
        with store.engine.begin() as other:
            other.execute(text("DROP TABLE thing"))
            other.execute(text("CREATE TABLE thing (id integer, name text, UNIQUE (name))"))
        assert count.scalar(sql) == 0


everything = Statement(select(text("thing.* FROM thing")))


def test_a_prepared_statement_whose_columns_changed_works_at_the_second_try(store: Store) -> None:
    for _ in range(3):
        with store.writing() as tx:
            everything.all(tx.sql)
    with store.engine.begin() as sql:
        sql.execute(text("ALTER TABLE thing ADD COLUMN other integer"))
    with pytest.raises(StoreConflict), store.writing() as tx:
        everything.all(tx.sql)
    with store.writing() as tx:
        assert everything.all(tx.sql) == []


def test_prepared_statements_that_someone_has_dropped_fail_once(store: Store) -> None:
    for _ in range(3):
        with store.writing() as tx:
            everything.all(tx.sql)
            count.all(tx.sql)
    with store.engine.begin() as sql:
        sql.execute(text("DEALLOCATE ALL"))
    with pytest.raises(StoreConflict), store.writing() as tx:
        everything.all(tx.sql)
    with store.writing() as tx:
        assert (everything.all(tx.sql), count.scalar(tx.sql)) == ([], 0)


@contextmanager
def kept_open(store: Store) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the store that lies idle in its pool."""
    with store.engine.connect() as sql:
        driver: Any = sql.connection.driver_connection
        assert count.scalar(sql) == 0
    yield driver


def end_session(url: str, pid: int) -> None:
    """End a session of the server, and wait until it is gone."""
    engine = open_fast_engine(url)
    with engine.begin() as sql:
        sql.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})
    engine.dispose()


def test_a_connection_that_was_lost_while_it_lay_idle_is_replaced(store: Store, url: str) -> None:
    with kept_open(store) as driver:
        end_session(url, driver.info.backend_pid)
    with store.writing() as tx:
        add.run(tx.sql, id=1, name="one")
    assert names(store) == ["one"]


@pytest.mark.parametrize("place", ["run", "put", "with the commit"])
def test_a_connection_that_is_lost_in_a_transaction_fails_it_and_says_why(store: Store, url: str, place: str) -> None:
    def fail() -> None:
        with store.writing() as tx:
            add.run(tx.sql, id=1, name="one")
            if place == "put":
                add.put(tx.sql, id=2, name="two")
            end_session(url, pipeline_of(tx.sql).driver.info.backend_pid)
            if place == "run":
                add.run(tx.sql, id=2, name="two")
            elif place == "with the commit":
                tx.appends.write(add, id=2, name="two")

    with pytest.raises(StoreUnavailable) as caught:
        fail()
    refused = caught.value.__cause__
    assert isinstance(refused, DBAPIError)
    assert isinstance(refused.orig, AdminShutdown)
    assert names(store) == []


class Interruption(BaseException):
    """What stops a thread while it waits."""


@pytest.mark.parametrize("place", ["run", "what is put", "SQLAlchemy", "commit"])
def test_what_interrupts_a_wait_costs_the_connection(store: Store, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    def interrupt(pipeline: Pipeline, ready: object) -> None:
        raise Interruption

    def fail() -> None:
        with store.writing() as tx:
            add.run(tx.sql, id=1, name="one")
            added = add.put(tx.sql, id=2, name="two")
            monkeypatch.setattr(Pipeline, "_wait", interrupt)
            if place == "run":
                add.run(tx.sql, id=3, name="three")
            elif place == "what is put":
                assert added.count == 1
            elif place == "SQLAlchemy":
                tx.sql.execute(text("SELECT 1"))

    with kept_open(store) as driver:
        with pytest.raises(Interruption):
            fail()
        monkeypatch.undo()
        assert driver.closed
    if place != "commit":
        assert names(store) == []


def test_a_thread_is_stopped_while_it_waits_for_a_lock_and_the_server_forgets_what_it_sent(store: Store) -> None:
    caught: list[BaseException] = []
    pids: list[int] = []

    def wait() -> None:
        try:
            with store.writing() as tx:
                pids.append(pipeline_of(tx.sql).driver.info.backend_pid)
                tx.appends.write(rename, own_id=1, name="renamed by a thread that was stopped")
        except Interruption as error:
            caught.append(error)

    with store.writing() as tx:
        add.run(tx.sql, id=1, name="one")
    with store.writing() as holder:
        rename.run(holder.sql, own_id=1, name="first")
        waiter = threading.Thread(target=wait)
        waiter.start()
        wait_until(lambda: bool(pids) and count_waiting.scalar(holder.sql, pid=pids[0]) == 1, "the thread waits")
        stop = ctypes.pythonapi.PyThreadState_SetAsyncExc
        stop(ctypes.c_ulong(waiter.ident or 0), ctypes.py_object(Interruption))
        waiter.join()
    assert [type(each) for each in caught] == [Interruption]
    assert names(store) == ["first"]


def test_a_signal_does_not_end_a_wait(store: Store) -> None:
    """The handler runs while the main thread waits for a lock, and the wait goes on."""
    handled: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: handled.append(number))
    with store.writing() as tx:
        add.run(tx.sql, id=1, name="one")
    try:
        with store.writing() as holder:
            find.all(holder.sql, own_id=1)

            def release() -> None:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
                rename.run(holder.sql, own_id=1, name="first")
                holder.sql.commit()

            timer = threading.Timer(0.05, release)
            timer.start()
            with store.writing() as tx:
                assert find.all(tx.sql, own_id=1) == [("first",)]
            timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert handled == [signal.SIGUSR1]
