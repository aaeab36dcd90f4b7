"""What goes into a row comes out as it was, and only what may stand there goes in."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.exc import StatementError

from models.crypto.secrets import Sealed
from models.errors import StoreConflict, SyncError
from models.journal import ListProblem
from models.oauth.credential import Credential
from models.store import Store
from models.store.rows import table_of
from models.store.tables import ConnectionRow, CredentialRow, SyncRunRow
from models.sync.absence import PageSeen
from models.sync.decision import ListRead, PageNote
from models.sync.records import Item, RecordChanges
from models.sync.since import Marks
from models.sync.snapshot import ListState
from models.sync.sync_run import RunStatus, SyncRun
from tests.store.conftest import Opened, a_connection, add_connection, an_authorization, noon

connections, credentials, runs = table_of(ConnectionRow), table_of(CredentialRow), table_of(SyncRunRow)


def test_times_come_back_aware_and_in_utc(store: Store) -> None:
    elsewhere = datetime(2026, 3, 1, 14, 30, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    connection = add_connection(store, expires_at=elsewhere)
    with store.reading() as tx:
        found = tx.connections.get(connection.id)
    assert found is not None
    assert (found.expires_at, found.created_at) == (elsewhere, noon)
    assert {found.expires_at.tzinfo, found.created_at.tzinfo} == {UTC} if found.expires_at else False


def test_a_time_without_a_zone_is_refused(store: Store) -> None:
    connection = add_connection(store)
    naive = datetime(2026, 3, 1, 12)  # noqa: DTZ001 - the point
    with pytest.raises((StatementError, SyncError)), store.writing() as tx:
        tx.sql.execute(update(connections).where(connections.c.id == connection.id).values(expires_at=naive))


def test_a_token_in_clear_is_refused(store: Store) -> None:
    connection = add_connection(store)
    with pytest.raises((StatementError, SyncError)), store.writing() as tx:
        tx.sql.execute(
            update(credentials).where(credentials.c.connection_id == connection.id).values(access_token="in clear")
        )
    with store.reading() as tx:
        assert tx.sql.execute(select(credentials.c.access_token)).scalar_one() is None


def test_every_field_of_a_connection_survives(store: Store) -> None:
    connection = add_connection(store, email="a@b.c", problem="x", scope="*", team_ids=(3, 4), generation=2)
    with store.reading() as tx:
        assert tx.connections.get(connection.id) == connection


def test_every_field_of_a_credential_survives(store: Store) -> None:
    connection = add_connection(store)
    credential = Credential(
        connection_id=connection.id,
        access_token=Sealed("v1.k1.access"),
        refresh_token=Sealed("v1.k1.refresh"),
        issued_at=noon,
        expires_at=noon,
        lease_owner="me",
        lease_until=noon,
        presented_at=noon,
        presented_generation=3,
        presentations=1,
        refused_generation=2,
        refused_at=noon,
        failures=4,
    )
    with store.writing() as tx:
        tx.credentials.put(credential)
    with store.reading() as tx:
        assert tx.credentials.get(connection.id) == credential


def test_a_run_that_is_over_is_stored_without_zeros_and_read_with_them(store: Store) -> None:
    none = {"created": 0, "updated": 0, "deleted": 0, "unchanged": 0}
    connection = add_connection(store)
    counts = {"document": none | {"created": 1}, "invoice": none}
    running = SyncRun("r1", connection.id, RunStatus.running, noon, counts=counts)
    ended = replace(running, id="r2", status=RunStatus.completed, finished_at=noon)
    with store.writing() as tx:
        tx.runs.add(running)
        tx.runs.add(ended)
    with store.reading() as tx:
        stored = dict(tx.sql.execute(select(runs.c.id, runs.c.counts)).all())
        found = {run.id: run for run in tx.runs.newest_of(connection.id, 2)}
    assert stored == {"r1": counts, "r2": {"document": {"created": 1}, "invoice": {}}}
    assert found == {"r1": running, "r2": ended}


def test_what_an_incremental_reading_goes_by_survives(store: Store) -> None:
    connection = add_connection(store)
    run = SyncRun("r1", connection.id, RunStatus.running, noon, "usual", since={"thing": "2026-03-01T11:58:00+00:00"})
    page, second = PageSeen(1, None, 2, ("a", "b"), newest="9"), PageSeen(2, 3, 2, ('"c',), nameless=1)
    items = tuple(Item(each, {"id": each}, each) for each in ("a", "b"))
    with store.writing() as tx:
        tx.runs.add(run)
        notes = [PageNote("thing", 0, each) for each in (PageSeen(1, 5, 5, ()), page, second)]
        for statement, values in [*tx.runs.noting(run.id, notes[:1]), *tx.runs.noting(run.id, notes)]:
            statement.run(tx.sql, **values)
        tx.records.write(connection.id, RecordChanges("thing", "thing", items), noon)
        tx.records.write(connection.id, RecordChanges("of_team", "of_team:1", items), noon)
        tx.records.mark_deleted(connection.id, "thing", ["b"], noon)
        tx.records.note_read(connection.id, ListRead("thing", marks=Marks("3", "9")), noon)
        tx.records.note_read(connection.id, ListRead("thing", ListProblem.list_shifting), noon)
        tx.records.note_read(connection.id, ListRead("of_team:1"), noon)
    with store.reading() as tx:
        assert tx.runs.running(connection.id) == run
        assert tx.runs.pages_of(run.id, "thing", 0) == (page, second)
        assert tx.records.marks(connection.id) == {
            "thing": (Marks("3", "9"), "list_shifting"),
            "of_team:1": (Marks(), None),
        }
        snapshot = tx.records.snapshot(connection.id, ["thing"], 10)()
        assert snapshot is not None
        assert snapshot.state("thing") == ListState(True, "list_shifting", None, Marks("3", "9"))
        assert tx.records.count_by_list(connection.id, ["thing", "of_team"]) == {"thing": 1, "of_team:1": 2}
        assert tx.records.count_by_list(connection.id, ["thing"]) == {"thing": 1}


def test_every_field_of_an_authorization_survives(store: Store) -> None:
    authorization = an_authorization(
        team_ids=(1,), return_to="https://app.example/", verifier=Sealed("v1.k1.v"), target_connection_id="c"
    )
    with store.writing() as tx:
        assert tx.authorizations.add(authorization, "link")
    with store.reading() as tx:
        assert tx.authorizations.get(authorization.id) == authorization


def test_a_block_that_fails_leaves_nothing(store: Store) -> None:
    connection = a_connection()

    def fail_halfway() -> None:
        with store.writing() as tx:
            tx.connections.add(connection)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    with store.reading() as tx:
        assert tx.connections.get(connection.id) is None


def test_one_account_of_one_user_is_one_connection(store: Store) -> None:
    add_connection(store, "ada", "1")
    with pytest.raises(StoreConflict), store.writing() as tx:
        tx.connections.add(a_connection("ada", "1"))
    add_connection(store, "ada", "2")
    add_connection(store, "bob", "1")


def test_a_reader_sees_no_half_of_a_transaction(opened: Opened) -> None:
    connection = a_connection()
    with opened.store.writing() as tx:
        tx.connections.add(connection)
        with opened.other.reading() as theirs:
            assert theirs.connections.get(connection.id) is None
    with opened.other.reading() as theirs:
        assert theirs.connections.get(connection.id) == connection


def test_a_credential_goes_with_its_connection(store: Store) -> None:
    connection = add_connection(store)
    with store.writing() as tx:
        tx.sql.execute(connections.delete().where(connections.c.id == connection.id))
    with store.reading() as tx:
        assert tx.credentials.get(connection.id) is None


def test_a_credential_without_a_connection_is_refused(store: Store) -> None:
    with pytest.raises(StoreConflict), store.writing() as tx:
        tx.sql.execute(insert(credentials).values(connection_id="nobody", presentations=0, failures=0))
