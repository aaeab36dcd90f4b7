"""The audit on a real database: inserted with what it records, chained once, pruned by whole days, and checked."""

import threading
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import text
from structlog.testing import capture_logs

from models.audit.chain import Line, kept
from models.audit.entry import Action, Channel, Entry, received
from models.audit.verify import Problem, Verdict, verify
from models.journal import Verb
from models.store import Store, Transaction
from scheduler.audit_chain import AuditChain
from scheduler.prune import Prune
from tests.store.conftest import Opened, add_connection, noon


def add(store: Store, count: int, at: datetime = noon) -> None:
    with store.writing() as tx:
        for number in range(count):
            tx.audit.add(Entry(action=Action.command_received, user_id="ada", detail={"n": number}), at)


def chain(store: Store, at: datetime = noon, most: int = 1000) -> int:
    return AuditChain(store, lambda: at, most)()


def check(store: Store, head: str | None = None, now: datetime = noon) -> Verdict:
    start = (now - kept).date()
    with store.reading() as tx:
        tx.audit.fix_snapshot()
        return verify(tx.audit.chained(start), tx.audit.days(), start, head)


def lines_of(store: Store) -> Sequence[Line]:
    with store.reading() as tx:
        return tx.audit.newest({}, None, 10_000)


def test_a_line_says_whose_connection_it_is_about(store: Store) -> None:
    connection = add_connection(store)
    with store.writing() as tx:
        tx.audit.add(received(Channel.message, "refresh", {}, connection_id=connection.id), noon)
        tx.journal.decide(connection.id, noon, Verb.refresh_saved, generation=2)
        tx.journal.decide(connection.id, noon, Verb.list_failing)
    first, second = lines_of(store)
    assert (first.actor, first.provider, first.user_id) == ("application", "breezedoc", "ada")
    assert (second.actor, second.action, second.user_id, second.detail) == (
        "worker",
        "token.refreshed",
        "ada",
        {"generation": 2},
    )


def test_what_is_rolled_back_leaves_no_line(store: Store) -> None:
    def fail() -> None:
        with store.writing() as tx:
            tx.audit.add(Entry(action=Action.link_opened), noon)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert lines_of(store) == []


def test_lines_are_chained_in_their_order_and_found_whole(store: Store) -> None:
    add(store, 25)
    assert chain(store, most=10) == 25
    assert [(line.id, line.number) for line in lines_of(store)] == [(n, n) for n in range(1, 26)]
    verdict = check(store)
    assert (verdict.lines, verdict.days, verdict.faults) == (25, 1, ())
    assert check(store, head=verdict.end.hash).faults == ()


def test_days_are_closed_and_continue_each_other(store: Store) -> None:
    with capture_logs() as logged:
        for day in range(3):
            add(store, 4)
            assert chain(store, noon + timedelta(days=day)) == 4
    with store.reading() as tx:
        closed = tx.audit.days()
    said = [(line["day"], line["count"], line["head"]) for line in logged if line["event"] == "audit.day_closed"]
    assert said == [(str(day.day), day.count, day.head) for day in closed]
    assert [(day.day.day, day.count) for day in closed] == [(1, 4), (2, 4)]
    assert check(store).faults == ()
    assert chain(store, noon + timedelta(days=9)) == 0, "a day is closed even if nothing follows"
    with store.reading() as tx:
        assert len(tx.audit.days()) == 3


def test_schedulers_at_once_chain_each_line_once(opened: Opened) -> None:
    add(opened.store, 200)
    ready, counts = threading.Barrier(4), list[int]()

    def run(store: Store) -> None:
        ready.wait()
        for _ in range(30):
            counts.append(chain(store, most=7))

    threads = [threading.Thread(target=run, args=(store,)) for store in (opened.store, opened.other) * 2]
    for thread in threads:
        thread.start()
    for number in range(20):
        add(opened.store, 5, noon + timedelta(seconds=number))
    for thread in threads:
        thread.join()
    counts.append(chain(opened.store))
    verdict = check(opened.store)
    assert (sum(counts), verdict.lines, verdict.faults) == (300, 300, ())


def test_a_scheduler_that_dies_while_it_chains_leaves_the_lines_to_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, 5)
    chain(store)
    add(store, 5)
    dying = AuditChain(store, lambda: noon + timedelta(days=1))
    with monkeypatch.context() as patched:

        def die(*_: object) -> None:
            raise KeyboardInterrupt

        patched.setattr("models.store.audit.Audit.waiting", lambda audit, limit: die() if limit > 1 else [None])
        with pytest.raises(KeyboardInterrupt):
            dying()
    with store.reading() as tx:
        assert (tx.audit.days(), tx.audit.count_waiting()) == ([], 5)
    assert dying() == 5
    assert (check(store).lines, check(store).faults) == (10, ())


manipulations = {
    "changed": ("UPDATE audit SET user_id = 'mallory' WHERE id = 6", Problem.changed, (2, 2)),
    "detail changed": ("UPDATE audit SET detail = '{\"n\": 7}' WHERE id = 6", Problem.changed, (2, 2)),
    "removed": ("DELETE FROM audit WHERE id = 6", Problem.removed, (2, 2)),
    "tail cut": ("DELETE FROM audit WHERE id IN (7, 8)", Problem.removed, (2, 3)),
    "day removed": ("DELETE FROM audit WHERE id BETWEEN 5 AND 8", Problem.removed, (2, 1)),
}


@pytest.mark.parametrize("case", manipulations)
def test_what_someone_does_to_the_database_is_found(store: Store, case: str) -> None:
    statement, problem, place = manipulations[case]
    for day in range(3):
        add(store, 4)
        chain(store, noon + timedelta(days=day))
    with store.writing() as tx:
        tx.sql.execute(text(statement))
    [fault] = check(store).faults
    assert (fault.problem, (fault.day and fault.day.day, fault.number)) == (problem, place)


def test_lines_go_by_whole_days_and_the_rest_still_holds(store: Store) -> None:
    for day in range(3):
        add(store, 4)
        chain(store, noon + timedelta(days=day))
    now = noon + kept + timedelta(days=2)
    Prune(store, lambda: now)()
    assert [line.id for line in lines_of(store)] == [9, 10, 11, 12]
    assert (check(store, now=now).lines, check(store, now=now).faults) == (4, ())
    add(store, 1)
    chain(store, now)
    assert check(store, now=now).faults == ()


def test_the_day_that_is_not_closed_is_never_pruned(store: Store) -> None:
    add(store, 3)
    chain(store)
    Prune(store, lambda: noon + kept + timedelta(days=9))()
    assert len(lines_of(store)) == 3


def test_lines_are_found_by_whom_and_what_they_are_about(store: Store) -> None:
    connection = add_connection(store)
    add(store, 3)
    with store.writing() as tx:
        tx.journal.decide(connection.id, noon + timedelta(hours=1), Verb.refresh_saved)

    def find(tx: Transaction, since: datetime | None = None, limit: int = 100, **wanted: str) -> list[int]:
        return [line.id for line in tx.audit.newest(wanted, since, limit)]

    with store.reading() as tx:
        assert find(tx) == [1, 2, 3, 4]
        assert find(tx, limit=2) == [3, 4]
        assert [line.id for line in tx.audit.after({}, None, 1, 2)] == [2, 3]
        assert [line.id for line in tx.audit.after({}, None, 3, 2)] == [4]
        assert find(tx, since=noon + timedelta(minutes=1)) == [4]
        assert find(tx, user_id="ada") == [1, 2, 3, 4]
        assert find(tx, connection_id=connection.id) == [4]
        assert find(tx, action="command.received", user_id="bob") == []


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_process_may_insert_without_the_right_to_read(opened: Opened) -> None:
    """Nothing comes back from an insert: a role needs no more than INSERT."""
    role = f"audit_writer_{opened.url.rsplit('/', 1)[1]}"

    def as_role(sql: SqlConnection, *statements: str) -> None:
        for statement in statements:
            sql.execute(text(statement))

    with opened.store.writing() as tx:
        as_role(
            tx.sql,
            f'CREATE ROLE "{role}"',
            f'GRANT INSERT ON audit TO "{role}"',
            f'GRANT USAGE ON SEQUENCE audit_id_seq TO "{role}"',
        )
    with opened.store.writing() as tx:
        as_role(tx.sql, f'SET LOCAL ROLE "{role}"')
        tx.audit.add(Entry(action=Action.link_refused, provider="breezedoc", address="192.0.2.1"), noon)
    with opened.store.writing() as tx:
        as_role(tx.sql, f'DROP OWNED BY "{role}"', f'DROP ROLE "{role}"')
    assert [line.action for line in lines_of(opened.store)] == ["link.refused"]
