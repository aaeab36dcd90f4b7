"""A worker that is asked to stop while a token endpoint takes its time: the pair is saved first."""

from datetime import UTC, datetime
from pathlib import Path

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from sqlalchemy import update

from models.store.rows import table_of
from models.store.tables import ConnectionRow
from tests.processes import Fleet, running_fleet


def test_a_worker_asked_to_stop_saves_the_pair_it_waits_for(tmp_path: Path, redis_url: str) -> None:
    """Whatever the message asks for: a time limit, or to be told of the shutdown, which would end it in between."""
    url = f"sqlite:///{tmp_path}/breezesync.db"
    with running_fleet(url, redis_url, tmp_path, schedulers=0, BREEZEDOC_REFRESH_SCOPE="") as fleet:
        connection = fleet.connect("ada", 1)
        make_due(fleet, connection)
        late = fleet.control.inject("token", "after", "late", delay_ms=4_000)
        send(fleet, connection, time_limit=500, notify_shutdown=True)
        fleet.wait_until(lambda: fleet.control.faults()[0]["hits"] == 1, "the token endpoint has the request")
        [worker] = [program for program in fleet.programs if program.name.startswith("worker")]
        worker.stop()
        fleet.control.remove_fault(late)
        [row] = fleet.rows("SELECT status, generation FROM connection WHERE id = :id", id=connection)
        assert (row.status, row.generation) == ("active", 2)


def make_due(fleet: Fleet, connection_id: str) -> None:
    table = table_of(ConnectionRow)
    due = update(table).where(table.c.id == connection_id)
    fleet.change(due.values(refresh_due_at=datetime.now(UTC)))


def send(fleet: Fleet, connection_id: str, **options: object) -> None:
    broker = RedisBroker(url=fleet.redis_url)  # type: ignore[no-untyped-call]
    ids = {"connection_id": connection_id}
    message: dramatiq.Message[object] = dramatiq.Message(
        queue_name="refresh", actor_name="refresh_token", args=(), kwargs=ids, options=dict(options)
    )
    broker.enqueue(message)
    broker.close()
