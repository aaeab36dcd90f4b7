"""Someone else has locked a table: nothing waits for ever, readiness says so, and every process stops in time."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.processes import Fleet, Program, running_fleet
from tests.servers import Postgres, own_postgres, postgres_user

in_time = 30.0


@contextmanager
def locking(database_url: str, table: str, mode: str = "ACCESS EXCLUSIVE") -> Iterator[None]:
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        connection.execute(f"LOCK TABLE {table} IN {mode} MODE")
        yield


def stop_all(fleet: Fleet) -> dict[str, tuple[int, bool]]:
    """SIGTERM to all processes at once: the exit code of each, and whether it ended in time."""

    def stop(program: Program) -> tuple[int, bool]:
        started = time.monotonic()
        return program.stop(), time.monotonic() - started < in_time

    running = [each for each in fleet.programs if each.runs]
    with ThreadPoolExecutor(len(running)) as pool:
        return dict(zip([each.name for each in running], pool.map(stop, running), strict=True))


def test_a_locked_table_keeps_no_process_from_stopping(postgres: Postgres, redis_url: str, tmp_path: Path) -> None:
    url = postgres.create_database()
    with running_fleet(url, redis_url, tmp_path) as fleet:
        connection = fleet.connect("ada", 1)
        with locking(url, "connection"):
            fleet.wait_until(lambda: not fleet.is_ready(), "the web process is not ready", 20)
            for _ in range(4):
                fleet.ask("sync_connection", "sync", connection_id=connection)
                fleet.ask("refresh_token", "refresh", connection_id=connection)
            time.sleep(3)  # work waits for the lock
            ended = stop_all(fleet)
        assert {name: in_time for name, (_, in_time) in ended.items()} == dict.fromkeys(ended, True)
        assert {code for code, _ in ended.values()} <= {0, -signal.SIGTERM}
        logs = "".join(program.log.read_text() for program in fleet.programs)
        assert "Traceback" not in logs
        assert "is locked by another session" in logs
    postgres.drop_database(url)


@pytest.mark.parametrize("mode", ["SHARE", "EXCLUSIVE", "ACCESS EXCLUSIVE"])
def test_whatever_lock_keeps_writes_waiting_is_not_ready(
    postgres: Postgres, redis_url: str, tmp_path: Path, mode: str
) -> None:
    url = postgres.create_database()
    with running_fleet(url, redis_url, tmp_path, workers=0, schedulers=0) as fleet:
        with locking(url, '"record"', mode):
            assert not fleet.is_ready()
        assert fleet.is_ready()
    postgres.drop_database(url)


def test_a_server_that_hangs_keeps_no_process_from_stopping(redis_url: str, tmp_path: Path) -> None:
    """No limit of a statement's helps here: the server does not run."""
    with own_postgres(postgres_user()) as server:
        url = server.url.render_as_string(False)
        with running_fleet(url, redis_url, tmp_path) as fleet:
            connection = fleet.connect("ada", 1)
            server.send_signal(signal.SIGSTOP)
            try:
                fleet.ask("sync_connection", "sync", connection_id=connection)
                time.sleep(3)
                ended = stop_all(fleet)
            finally:
                server.send_signal(signal.SIGCONT)
            assert {name: in_time for name, (_, in_time) in ended.items()} == dict.fromkeys(ended, True)
