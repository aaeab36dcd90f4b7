"""What is lost when a worker dies in the middle of its work, and when Redis forgets everything: nothing."""

from datetime import UTC, datetime, timedelta

import redis
from sqlalchemy import update

from models.store.rows import table_of
from models.tables import ConnectionRow, SyncRunRow
from tests.processes import Fleet, Listener, Program

FOR_GOOD_MS = 60_000
A_MOMENT_MS = 1_500


def hold(fleet: Fleet, account: int, path: str, milliseconds: int) -> int:
    """Keeps the next answer to this account's request for `path` back; the fault's id."""
    return fleet.control.inject(
        on="api", kind="late", delay_ms=milliseconds, match={"user_id": account, "path": f"/api{path}"}
    )


def is_held(fleet: Fleet, fault: int) -> bool:
    return any(one["id"] == fault and one["hits"] == 1 for one in fleet.control.faults())


def let_leases_run_out(fleet: Fleet, connection_id: str) -> None:
    """Whoever had taken this connection's sync took it two minutes ago."""
    runs, connections = table_of(SyncRunRow), table_of(ConnectionRow)
    past = datetime.now(UTC) - timedelta(minutes=2)
    fleet.change(
        update(runs).where(runs.c.connection_id == connection_id).values(lease_until=past),
        update(connections).where(connections.c.id == connection_id).values(sync_due_at=past, sync_claimed_until=past),
    )


def flush(fleet: Fleet) -> None:
    with redis.Redis.from_url(fleet.redis_url) as client:
        client.flushall()


def working(fleet: Fleet) -> Program:
    """The one worker that runs."""
    [worker] = [program for program in fleet.programs if program.name.startswith("worker") and program.runs]
    return worker


def committed(fleet: Fleet, connection_id: str) -> int:
    """How many record events of this connection are stored."""
    query = "SELECT count(*) AS events FROM event WHERE connection_id = :id AND stream = 'records'"
    [row] = fleet.rows(query, id=connection_id)
    return int(row.events)


def assert_told_once(listener: Listener, connection_id: str) -> None:
    records = {event.id: event for event in listener.about(connection_id, "record.")}.values()
    things = [(event.data["resource"], event.data["external_id"]) for event in records]
    assert len(set(things)) == len(things)
    assert [event.sequence for event in records] == list(range(1, len(records) + 1))


def test_a_sync_that_lost_its_worker_is_ended_by_another(fleet: Fleet, listener: Listener) -> None:
    account = fleet.control.add_user("Grete", documents=35, invoices=3)
    held = hold(fleet, account, "/invoices", FOR_GOOD_MS)
    connection = fleet.connect("grete", account)
    fleet.wait_until(lambda: is_held(fleet, held), "the sync waits for the invoices")
    working(fleet).kill()
    let_leases_run_out(fleet, connection)
    fleet.start_worker()
    fleet.has_synced(listener, connection)
    assert_told_once(listener, connection)
    [completed] = listener.about(connection, "sync.")
    assert completed.data["resources"]["document"] == {"created": 35, "updated": 0, "deleted": 0, "unchanged": 0}
    assert completed.data["resources"]["invoice"]["created"] == 3


def test_an_emptied_redis_in_the_middle_of_a_sync_loses_no_event(fleet: Fleet, listener: Listener) -> None:
    account = fleet.control.add_user("Sofia", documents=15, invoices=3)
    held = hold(fleet, account, "/invoices", A_MOMENT_MS)
    connection = fleet.connect("sofia", account)
    fleet.wait_until(lambda: is_held(fleet, held), "the sync waits for the invoices")
    before = committed(fleet, connection)
    fleet.wait_until(lambda: len(listener.about(connection, "record.")) == before, "what was committed is heard")
    flush(fleet)
    fleet.has_synced(listener, connection)
    assert_told_once(listener, connection)
    assert len(listener.about(connection, "record.")) == committed(fleet, connection) > before > 15


def test_an_emptied_redis_loses_no_authorization_on_its_way(fleet: Fleet, listener: Listener) -> None:
    account = fleet.control.add_user("Emmy", documents=2)
    worker = working(fleet)
    worker.pause()
    result = fleet.consent("emmy", account)
    flush(fleet)
    worker.resume()
    outcome = fleet.outcome(result)
    assert outcome["status"] == "connected"
    fleet.has_synced(listener, outcome["connection_id"])
    assert_told_once(listener, outcome["connection_id"])
