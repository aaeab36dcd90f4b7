"""Redis goes away in the middle of everything and comes back with nothing in it: nothing is lost, and work goes on."""

from pathlib import Path

from tests.journey.holding import committed, hold, is_held
from tests.processes import Listener, Program, running_fleet
from tests.servers import running_valkey

A_MOMENT_MS = 3_000


def has_missed(scheduler: Program, passes: int) -> bool:
    """Whether that many of its passes have failed."""
    return scheduler.log.read_text(errors="replace").count("sweep.failed") >= passes


def test_redis_away_for_many_sweeps_and_back_empty_loses_nothing(tmp_path: Path) -> None:
    with (
        running_valkey() as valkey,
        running_fleet(f"sqlite:///{tmp_path}/b.db", valkey.url, tmp_path, schedulers=2) as fleet,
    ):
        listener = Listener(valkey.url)
        reading = fleet.control.add_user("Grace", documents=15, invoices=3)
        held = hold(fleet, reading, "/invoices", A_MOMENT_MS)
        connection = fleet.connect("grace", reading)
        fleet.wait_until(lambda: is_held(fleet, held), "the sync waits for the invoices")
        before = committed(fleet, connection)
        fleet.wait_until(lambda: len(listener.about(connection, "record.")) == before, "what was committed is heard")
        valkey.kill()
        result = fleet.consent("emmy", fleet.control.add_user("Emmy", documents=2))
        for scheduler in [program for program in fleet.programs if program.name.startswith("scheduler")]:
            fleet.wait_until(lambda scheduler=scheduler: has_missed(scheduler, 5), "five passes failed", 60)  # type: ignore[misc]
        valkey.start()
        assert fleet.outcome(result)["status"] == "connected"
        fleet.wait_until(lambda: bool(listener.about(connection, "sync.completed")), "the sync ends", 60)
        sequences = [event.sequence for event in listener.about(connection, "record.")]
        assert list(dict.fromkeys(sequences)) == list(range(1, committed(fleet, connection) + 1))
        listener.close()
