"""Commands as real processes: several at once, in the way of others, stopped and killed."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from config.settings import read_settings
from models.crypto.vault import new_key
from models.store.sealed_fields import fields
from tests.cli.conftest import Desk
from tests.processes import CHECKOUT
from tests.servers import Postgres, plain_environment, reserved_port, wait_until
from worker.startup import open_vault

STARTING = 60.0
STOPPING = 40.0


def start(directory: Path, words: Sequence[str], variables: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "worker", *words],
        cwd=directory,
        env={**plain_environment(), "PYTHONPATH": str(CHECKOUT), **(variables or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, complaints = process.communicate(timeout=STARTING)
    return process.returncode, output, complaints


def is_alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/var/new.db"
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


def test_several_migrations_at_once_make_one_schema(empty_database: str, tmp_path: Path) -> None:
    started = [start(tmp_path, ["migrate", "--json"], {"DATABASE_URL": empty_database}) for _ in range(2)]
    ended = [finish(process) for process in started]
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert len({json.loads(output)["revision"] for _, output, _ in ended}) == 1
    with create_engine(empty_database, poolclass=NullPool).connect() as sql:
        assert sql.execute(text("SELECT count(*) FROM alembic_version")).scalar_one() == 1
        assert sql.execute(text("SELECT count(*) FROM breezedoc_document")).scalar_one() == 0


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["status"], 1, "Run this in breezesync's directory."),
        (["nonsense"], 2, "No such command"),
        (["connect-link", "ada", "--provider", "nowhere"], 1, "BREEZEDOC_CLIENT_ID: missing"),
    ],
)
def test_a_process_ends_with_the_code_and_no_traceback(
    tmp_path: Path, words: list[str], code: int, complaint: str
) -> None:
    ended, output, complaints = finish(start(tmp_path, words))
    assert (ended, output) == (code, "")
    assert complaint in complaints
    assert "Traceback" not in complaints
    assert not (tmp_path / "var").exists(), "what only reads makes no database"


@contextmanager
def running(directory: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """`breezesync run` once it is ready, and the state it wrote."""
    state = directory / "state.json"
    with reserved_port() as port, reserved_port() as sandbox_port, reserved_port() as operator_port:
        ports = ["--port", str(port), "--sandbox-port", str(sandbox_port), "--operator-port", str(operator_port)]
        process = start(directory, ["run", *ports, "--state", str(state), *words])
        try:
            wait_until(lambda: state.exists() or process.poll() is not None, "run is ready", STARTING)
            assert process.poll() is None, process.communicate()
            yield process, json.loads(state.read_text())
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()


def test_run_stops_at_ctrl_c_and_leaves_no_process(tmp_path: Path) -> None:
    with running(tmp_path) as (process, state):
        assert set(state["children"]) == {"valkey", "sandbox", "web", "worker", "scheduler"}
        stop(process, state, signal.SIGINT)
        assert not (tmp_path / "state.json").exists()


def stop(process: subprocess.Popen[str], state: dict[str, Any], number: signal.Signals) -> None:
    """Stop `run` by a signal; AssertionError if it leaves a process, or complains."""
    children = family_of(state["children"].values())
    process.send_signal(number)
    output, complaints = process.communicate(timeout=STOPPING)
    assert (process.returncode, complaints) == (0, "")
    assert output.endswith("Stopped.\n")
    assert [pid for pid in children if is_alive(pid)] == []


def test_run_that_is_killed_takes_its_children_along(tmp_path: Path) -> None:
    with running(tmp_path) as (process, state):
        children = family_of(state["children"].values())
        process.kill()
        wait_until(lambda: not any(is_alive(pid) for pid in children), "every child has ended", STOPPING)


def test_run_refuses_what_it_can_not_have(tmp_path: Path) -> None:
    with running(tmp_path) as (process, state):
        code, output, complaints = finish(start(tmp_path, ["run"]))
        assert (code, output) == (1, "")
        assert complaints == "breezesync run is already running in this directory.\n"
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        port = state["web_url"].rsplit(":", 1)[1]
        code, output, complaints = finish(start(elsewhere, ["run", "--port", port]))
        assert (code, output) == (1, "")
        taken = f"Port {port} of 127.0.0.1 is taken: stop what listens there, or choose another with --port."
        assert complaints == f"{taken}\n"
        code, _, complaints = finish(start(elsewhere, ["run", "--port", "1", "--sandbox-port", port]))
        assert code == 1
        assert "Traceback" not in complaints
        taken = state["operator_url"].rsplit(":", 1)[1]
        with reserved_port() as free:
            code, _, complaints = finish(start(elsewhere, ["run", "--port", str(free), "--operator-port", taken]))
        assert (code, "--operator-port" in complaints) == (1, True)
        for words in (["status", "--json"], ["doctor", "--json"]):
            code, output, complaints = finish(start(tmp_path, words))
            assert (code, complaints) == (0, ""), output
            assert json.loads(output) is not None
        stop(process, state, signal.SIGTERM)


def family_of(pids: Any) -> list[int]:
    """These processes and all that came from them."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parent = int(Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            parents.setdefault(parent, []).append(int(entry))
    found = list(pids)
    for pid in found:
        found += parents.get(pid, [])
    return found


@pytest.mark.parametrize(("database", "target"), [("desk", "a new key"), ("postgres_desk", "a Vault")])
def test_keys_rotate_while_tokens_are_refreshed_and_after_a_kill(
    database: str, target: str, request: pytest.FixtureRequest
) -> None:
    """No read fails meanwhile, and afterwards the old key is not needed by any token."""
    desk: Desk = request.getfixturevalue(database)
    users = [desk.house.control.add_user(f"User {number}", documents=0) for number in range(24)]
    connections = [desk.house.connect(f"user-{account}", account) for account in users]
    new, prefix = turn_over(desk, target, request)
    vault, refresh = open_vault(read_settings()), desk.house.flows.refresh
    refresh = replace(
        refresh,
        vault=vault,
        clients=replace(refresh.clients, vault=vault),
        parking=replace(refresh.parking, vault=vault),
    )
    sync = replace(desk.house.flows.sync, vault=vault)
    stop, reads = Event(), Counter[str]()

    def refresh_on_and_on() -> None:
        for connection in cycle(connections):
            if stop.is_set():
                return
            desk.house.make_refresh_due(connection.id)
            refresh(connection.id)

    def read_on_and_on() -> None:
        for connection in cycle(connections):
            if stop.is_set():
                return
            taken = sync.take(connection.id)
            reads["opened" if taken is not None else "failed"] += 1
            if taken is not None:
                sync.hand_on(taken)

    workers = [Thread(target=refresh_on_and_on), Thread(target=read_on_and_on)]
    for worker in workers:
        worker.start()
    try:
        first = start(desk.directory, ["keys", "rotate", "--batch", "1"], dict(os.environ))
        wait_until(lambda: under(desk, prefix) > 0, "something is resealed", STARTING)
        first.kill()
        first.communicate()
        second = start(desk.directory, ["keys", "rotate", "--batch", "1", "--json"], dict(os.environ))
        code, output, complaints = finish(second)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
        vault.close()
    assert (code, json.loads(output)["unopened"]) == (0, {}), complaints
    assert (reads["failed"], reads["opened"] > 10) == (0, True)
    desk.set(ENCRYPTION_KEYS=new)
    assert desk.read("keys", "status")["unknown"] == []
    [used] = desk.read("keys", "status")["sealed"]["credential.refresh_token"]
    assert used.startswith(prefix)
    assert sum(desk.house.connection(connection.id).generation - 1 for connection in connections) > 10
    assert all(each["state"] == "ok" for each in desk.read("doctor")["checks"] if each["check"] in ("keys", "vault"))


def turn_over(desk: Desk, target: str, request: pytest.FixtureRequest) -> tuple[str, str]:
    """Set the new master key beside the old one; return the ring without the old one, and how the new id begins."""
    old, new = desk.environment["ENCRYPTION_KEYS"], new_key("k2").line().reveal()
    desk.set(ENCRYPTION_KEYS=f"{new},{old}")
    if target == "a new key":
        return new, "k2"
    transit = request.getfixturevalue("openbao").new_key()
    desk.set(VAULT_ADDR=transit.address, VAULT_TOKEN=transit.token.reveal(), VAULT_TRANSIT_KEY=transit.key)
    return new, f"vault:{transit.key}:v1"


def under(desk: Desk, key: str) -> int:
    """How many secrets have a data key that this key wraps."""
    with desk.house.store.reading() as tx:
        return sum(tx.seals.count(field, f"v1.{key}.") for field in fields)
