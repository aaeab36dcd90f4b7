"""Machines whose clocks are wrong, or are set while they work: no token is presented twice, and no user is lost."""

from pathlib import Path
from typing import Any

import pytest

from tests.processes import CHECKOUT, Fleet, Listener, Program, running_fleet
from tests.servers import Postgres, running_valkey

USERS = 6
HOUR, DAY = 3_600, 86_400

# Loaded by Python at its start, before any of our modules: sets the process's time of day, but not its steady clocks.
WRONG_CLOCK = """
import os, pathlib, threading, time
import time_machine

source, applied = pathlib.Path(os.environ["AHEAD"]), 0.0
coordinates = time_machine.travel(time.time(), tick=True).start()

def follow():
    global applied
    while True:
        ahead = float(source.read_text() or applied)
        if ahead != applied:
            coordinates.shift(ahead - applied)
            applied = ahead
        time.sleep(0.1)

ahead = float(source.read_text())
coordinates.shift(ahead)
applied = ahead

def start_following():
    threading.Thread(target=follow, daemon=True).start()

start_following()
os.register_at_fork(after_in_child=start_following)  # Dramatiq forks its workers
"""


class WrongClock:
    """A machine's clock that is `ahead` seconds ahead; it can be set while processes run by it."""

    def __init__(self, directory: Path, ahead: float) -> None:
        directory.mkdir()
        (directory / "sitecustomize.py").write_text(WRONG_CLOCK)
        self.directory, self.file = directory, directory / "ahead"
        self.set(ahead)

    def set(self, ahead: float) -> None:
        self.file.write_text(str(ahead))

    def start(self, fleet: Fleet, name: str, *arguments: str) -> Program:
        environment = {**fleet.environment, "PYTHONPATH": f"{self.directory}:{CHECKOUT}", "AHEAD": str(self.file)}
        program = Program(name, arguments, environment, fleet.directory)
        fleet.programs.append(program)
        return program

    def start_worker(self, fleet: Fleet) -> Program:
        options = ("--processes=1", "--threads=4", "--worker-shutdown-timeout=25000")
        return self.start(fleet, f"worker-{self.directory.name}", "dramatiq", "worker.main:boot", *options)


def refreshed(listener: Listener, connection_id: str) -> int:
    return len(listener.about(connection_id, "connection.refreshed"))


def wrong_clocks(fleet: Fleet) -> list[str]:
    return [name for (name,) in fleet.rows("SELECT name FROM process WHERE ahead_seconds <> 0")]


@pytest.mark.parametrize("reuse", ["family_revoked"])
def test_wrong_clocks_spend_no_token_twice(tmp_path: Path, postgres: Postgres, reuse: str) -> None:
    url = postgres.create_database()
    short_life: dict[str, Any] = {
        "BREEZEDOC_REFRESH_REUSE": reuse,
        "BREEZEDOC_TOKEN_REQUESTS_PER_MINUTE": "1000",
        "SYNC_INTERVAL": "5s",
    }
    with running_valkey() as valkey, running_fleet(url, valkey.url, tmp_path, **short_life) as fleet:
        clocks = {
            name: WrongClock(tmp_path / name, ahead)
            for name, ahead in {"ahead": 70, "behind": -DAY, "set": 0, "scheduler": 0}.items()
        }
        for name in ("ahead", "behind", "set"):
            clocks[name].start_worker(fleet)
        clocks["scheduler"].start(fleet, "scheduler-wrong", "scheduler")
        fleet.control.set(refresh_reuse=reuse, access_ttl=20, token_rate_limit=0, rate_limit=0, latency_ms=100)
        listener = Listener(valkey.url)
        users = fleet.control.add_users(USERS, documents=1)
        connections = [fleet.connect(f"user-{user}", user) for user in users]
        for ahead in (DAY, -HOUR):
            seen = {each: refreshed(listener, each) for each in connections}
            clocks["set"].set(ahead)
            clocks["scheduler"].set(-ahead)
            fleet.wait_until(
                lambda seen=seen: sum(refreshed(listener, each) > seen[each] for each in connections) > USERS / 2,  # type: ignore[misc]
                f"most tokens are refreshed with a clock {ahead} s ahead",
            )
        fleet.wait_until(lambda: len(wrong_clocks(fleet)) == len(clocks), "each process reports its clock")
        fleet.stop()  # a request under way has no outcome yet
        ended = [event for each in connections for event in listener.about(each, "connection.reauthorization")]
        assert ended == []
        assert {status for (status,) in fleet.rows("SELECT status FROM connection")} == {"active"}
        counters = fleet.control.counters()
        for token in counters["refresh_tokens"]:
            outcomes = [one["outcome"] for one in token["presentations"] if one["outcome"] != "scope_rejected"]
            assert outcomes in ([], ["rotated"]), token["presentations"]
        assert counters["reuses"] == 0
        for name in ("ahead", "behind"):
            assert "clock.off" in next(p for p in fleet.programs if p.name == f"worker-{name}").log.read_text()
        listener.close()
    postgres.drop_database(url)


def test_a_scheduler_whose_clock_is_set_back_goes_on_sweeping(tmp_path: Path) -> None:
    with (
        running_valkey() as valkey,
        running_fleet(f"sqlite:///{tmp_path}/b.db", valkey.url, tmp_path, schedulers=0) as fleet,
    ):
        clock = WrongClock(tmp_path / "back", 0)
        scheduler = clock.start(fleet, "scheduler-back", "scheduler")
        listener = Listener(valkey.url)
        connection = fleet.connect("ada", fleet.control.add_user("Ada", documents=1))
        fleet.has_synced(listener, connection)
        clock.set(-HOUR)
        fleet.wait_until(lambda: "clock.off" in scheduler.log.read_text(), "the scheduler's clock is set back")
        fleet.wait_until(lambda: bool(wrong_clocks(fleet)), "the scheduler reports its clock")
        [reported] = wrong_clocks(fleet)
        assert reported.split()[0] == "scheduler"
        listener._redis.xadd("breezesync:commands", {"type": "sync", "connection_id": connection})
        fleet.has_synced(listener, connection, times=2)
        listener.close()
