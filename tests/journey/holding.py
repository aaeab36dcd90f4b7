"""What journeys through a disaster share: answers held back, leases that ran out, and what must have been told once."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import update

from models.store.rows import table_of
from models.store.tables import ConnectionRow, SyncRunRow
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
        update(connections)
        .where(connections.c.id == connection_id)
        .values(sync_due_at=past, sync_claimed_until=past, sync_lease_until=past),
    )


def working(fleet: Fleet) -> Program:
    """The one worker that runs, once it can be stopped."""
    [worker] = [program for program in fleet.programs if program.name.startswith("worker") and program.runs]
    fleet.wait_until(lambda: worker.takes_sigterm, "the worker has started")
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
