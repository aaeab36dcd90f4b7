"""The previous release's worker beside this one's on this one's schema: either does whatever work there is."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from tests.processes import Fleet, Listener, running_fleet
from tests.releases import unpack_previous_release


@pytest.fixture
def fleet(postgres_url: str, redis_url: str, tmp_path: Path) -> Iterator[Fleet]:
    """Web and scheduler of this version, no worker yet; the previous release's code is in `previous`."""
    previous = tmp_path / "previous"
    unpack_previous_release(previous)
    with running_fleet(postgres_url, redis_url, tmp_path, workers=0) as fleet:
        yield fleet


def ask_for_all(fleet: Fleet, connections: list[str]) -> None:
    for connection in connections:
        fleet.ask("sync_connection", "sync", connection_id=connection)
        fleet.ask("refresh_token", "refresh", connection_id=connection)


def test_no_work_is_lost_while_workers_of_two_releases_share_it(fleet: Fleet) -> None:
    listener = Listener(fleet.redis_url)
    environment = {**fleet.environment, "PYTHONPATH": str(fleet.directory / "previous")}
    old = replace(fleet, environment=environment).start_worker()
    accounts = fleet.control.add_users(4, documents=3)
    connections = [fleet.connect(f"user-{account}", account) for account in accounts]
    for connection in connections:
        fleet.has_synced(listener, connection)
    assert all(listener.about(connection, "record.created") for connection in connections)

    new = fleet.start_worker()
    fleet.wait_until(lambda: "ready for action" in new.log.read_text(), "this version's worker works as well")
    ask_for_all(fleet, connections)
    later = fleet.control.add_users(3, documents=3)
    connections += [fleet.connect(f"user-{account}", account) for account in later]
    ask_for_all(fleet, connections)
    assert old.stop() == 0, "it hands back what it has not done"
    accounts = fleet.control.add_users(1, documents=3)
    connections += [fleet.connect(f"user-{account}", account) for account in accounts]

    for connection in connections:
        fleet.has_synced(listener, connection)
    for connection in connections[:-1]:
        fleet.wait_until(lambda c=connection: bool(listener.about(c, "connection.refreshed")), "refreshed")  # type: ignore[misc]
    fleet.wait_until(lambda: not fleet.rows("SELECT id FROM event WHERE published_at IS NULL"), "all is published")
    assert "exchange_code" in new.log.read_text()
    for connection in connections:
        numbers = {e.sequence for e in listener.about(connection) if e.stream == "breezesync:events"}
        assert numbers == set(range(1, len(numbers) + 1))
    reused = fleet.control.counters(tokens=False)["reuses"]
    with redis.Redis.from_url(fleet.redis_url) as client:
        dead = list(client.scan_iter("dramatiq:*.XQ"))
    assert (reused, dead) == (0, [])
    listener.close()
