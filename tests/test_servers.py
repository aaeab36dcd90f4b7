"""What the tests' servers promise the tests."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis
from playwright.sync_api import Browser
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from tests.servers import (
    NO_CHROMIUM,
    PATIENCE,
    Postgres,
    ServerProcess,
    Valkey,
    accepts_connections,
    reachable,
    reserved_port,
    running_chromium,
    running_postgres,
    running_valkey,
    temporary_directory,
    wait_until,
)

ROOT = Path(__file__).parent.parent

# A process that was started in the background of a script was told to ignore SIGINT; this one is to be ended by it.
HOLD_SERVERS = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from tests.servers import running_postgres, running_valkey
with running_valkey() as valkey, running_postgres({}) as postgres:
    print(valkey.process.log.parent, valkey.url, postgres.url.render_as_string(False), flush=True)
    sys.stdin.read()
"""


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    engine = create_engine(url)
    with engine.begin() as connection:
        result = connection.execute(text(statement))
        rows = [tuple(row) for row in result] if result.returns_rows else []
    engine.dispose()
    return rows


def test_a_test_gets_a_postgresql_database_that_sqlalchemy_can_use(postgres_url: str) -> None:
    execute(postgres_url, "CREATE TABLE claimed (id integer PRIMARY KEY)")
    execute(postgres_url, "INSERT INTO claimed VALUES (1), (2)")

    rows = execute(postgres_url, "SELECT id FROM claimed ORDER BY id FOR UPDATE SKIP LOCKED")

    assert rows == [(1,), (2,)]


def test_two_databases_share_nothing(postgres: Postgres, postgres_url: str) -> None:
    other = postgres.create_database()
    execute(other, "CREATE TABLE seen (id integer)")

    tables = execute(postgres_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")

    postgres.drop_database(other)
    assert tables == []


def test_a_database_can_start_as_the_copy_of_a_prepared_one(postgres: Postgres, postgres_url: str) -> None:
    execute(postgres_url, "CREATE TABLE prepared AS SELECT 7 AS value")
    template = postgres_url.rsplit("/", 1)[1]

    copy = postgres.create_database(template)

    rows = execute(copy, "SELECT value FROM prepared")
    postgres.drop_database(copy)
    assert rows == [(7,)]


def test_a_dropped_database_is_gone_with_its_open_connections(postgres: Postgres) -> None:
    url = postgres.create_database()
    address = url.replace("+psycopg", "")
    with psycopg.connect(address) as connection:
        postgres.drop_database(url)

        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(address)


def test_a_named_postgresql_is_used_and_left_running(postgres: Postgres) -> None:
    named = postgres.url.set(drivername="postgresql").render_as_string(False)

    with running_postgres({"TEST_DATABASE_URL": named}) as server:
        url = server.create_database()
        rows = execute(url, "SELECT 1")
        server.drop_database(url)

    assert rows == [(1,)]
    assert execute(postgres.url.render_as_string(False), "SELECT 2") == [(2,)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has another user run PostgreSQL")
def test_binaries_that_another_user_cannot_reach_are_copied_with_their_libraries(tmp_path: Path) -> None:
    hidden = tmp_path / "site-packages"
    program = hidden / "server" / "install" / "bin" / "initdb"
    for path in (program, hidden / "server.libs" / "lib.so", hidden / "server-1.dist-info" / "RECORD"):
        path.parent.mkdir(parents=True)
        path.write_text(path.name)
    hidden.chmod(0o700)
    with temporary_directory("nobody") as directory:
        copy = reachable(program, directory, "nobody")

        copied = sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())

    assert copy == directory / "server" / "install" / "bin" / "initdb"
    assert copied == ["server.libs/lib.so", "server/install/bin/initdb"]


@pytest.mark.parametrize("left_behind", ["one", "two"])
def test_a_test_finds_valkey_empty(redis_url: str, left_behind: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        found = client.dbsize()
        client.set(left_behind, "for the next test")

    assert found == 0


@pytest.mark.parametrize("end", [Valkey.stop, Valkey.kill])
def test_a_persistent_valkey_finds_its_keys_again(own_valkey: Valkey, end: Callable[[Valkey], None]) -> None:
    with redis.Redis.from_url(own_valkey.url) as client:
        client.xadd("stream", {"field": "value"}, id="1-1")
    end(own_valkey)
    assert not own_valkey.answers()

    own_valkey.start()

    with redis.Redis.from_url(own_valkey.url, decode_responses=True) as client:
        assert client.xrange("stream") == [("1-1", {"field": "value"})]


def test_a_restarted_valkey_is_another_process_on_the_same_port(own_valkey: Valkey) -> None:
    url, pid = own_valkey.url, own_valkey.process.pid

    own_valkey.restart()

    assert own_valkey.url == url
    assert own_valkey.process.pid != pid
    assert own_valkey.answers()


def test_a_paused_valkey_answers_again_when_it_goes_on(own_valkey: Valkey) -> None:
    own_valkey.process.send_signal(signal.SIGSTOP)
    assert not own_valkey.answers()

    own_valkey.process.send_signal(signal.SIGCONT)

    assert own_valkey.answers()


def test_a_paused_valkey_is_stopped_all_the_same() -> None:
    with running_valkey() as valkey:
        valkey.process.send_signal(signal.SIGSTOP)

    assert not valkey.running
    assert not valkey.answers()


def test_a_stopped_valkey_keeps_its_port_from_others(own_valkey: Valkey) -> None:
    port = make_url(own_valkey.url).port
    own_valkey.stop()

    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))


def test_a_port_is_given_back_after_its_reservation() -> None:
    with reserved_port() as port:
        pass

    with socket.socket() as other:
        other.bind(("127.0.0.1", port))

        assert other.getsockname() == ("127.0.0.1", port)


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    server = ServerProcess(["/bin/sh", "-c", "echo no room on this machine; exit 3"], tmp_path)

    with pytest.raises(ChildProcessError, match="ended with 3") as caught:
        server.wait_until_ready(lambda: False)

    assert caught.value.__notes__ == ["no room on this machine\n"]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_servers_and_their_directories_go_when_the_tests_are_ended(end: signal.Signals, tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_SERVERS],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        valkey_directory, valkey_url, postgres_url = holder.stdout.readline().split()
        [[data_directory]] = execute(postgres_url, "SHOW data_directory")
        directories = Path(valkey_directory), Path(str(data_directory)).parent
        assert all(directory.is_dir() for directory in directories)

        holder.send_signal(end)
        holder.wait(PATIENCE)

    wait_until(lambda: not any(directory.exists() for directory in directories), "the directories go")
    with pytest.raises(redis.ConnectionError):
        redis.Redis.from_url(valkey_url).ping()
    assert not accepts_connections(make_url(postgres_url))


def test_a_browser_shows_a_page(browser: Browser) -> None:
    page = browser.new_page()

    page.set_content("<h1>Connected</h1>")

    assert page.inner_text("h1") == "Connected"


def test_after_a_browser_this_thread_can_run_an_event_loop() -> None:
    with running_chromium():
        pass

    assert asyncio.run(asyncio.sleep(0, "done")) == "done"


def test_without_a_browser_the_test_is_skipped_in_clear_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=NO_CHROMIUM), running_chromium(str(tmp_path)):
        pass


def test_without_a_browser_the_test_fails_in_ci(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=NO_CHROMIUM), running_chromium(str(tmp_path)):
        pass
