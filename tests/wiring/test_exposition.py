"""Metrics at METRICS_ADDRESS, of one process and of several."""

import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter
from structlog.testing import capture_logs

from config.exposition import Exposition
from config.setting_texts import Address


def wait(condition: Any, seconds: float = 10.0) -> Any:
    until = monotonic() + seconds
    while not (found := condition()):
        assert monotonic() < until, "it did not come"
        sleep(0.02)
    return found


def read(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


@contextmanager
def exposed(exposition: Exposition) -> Iterator[Exposition]:
    exposition.start()
    try:
        yield exposition
    finally:
        exposition.stop()


def make_registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("seen", "Seen.", registry=registry).inc(3)
    return registry


def test_a_free_port_is_chosen_for_port_0_and_logged() -> None:
    with capture_logs() as logs, exposed(Exposition(Address("127.0.0.1", 0), make_registry())) as exposition:
        port = wait(lambda: exposition.port)
        assert "seen_total 3.0" in read(port)
    assert [(line["event"], line["address"]) for line in logs] == [("metrics.listening", f"127.0.0.1:{port}")]


@pytest.mark.parametrize("address", [Address("127.0.0.1", -1), Address("198.51.100.1", 9102), Address("no.invalid", 1)])
def test_an_address_at_which_nothing_can_listen_is_named_once_and_harms_nothing(
    address: Address, monkeypatch: Any
) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    if address.port < 0:
        address = Address("127.0.0.1", taken.getsockname()[1])
    monkeypatch.setattr("config.exposition.round_seconds", 0.01)
    rounds: list[int] = []
    with capture_logs() as logs:
        exposition = Exposition(address, make_registry(), on_round=lambda: rounds.append(1))
        with exposed(exposition):
            wait(lambda: len(rounds) > 2)
            taken.close()
    [line] = [line for line in logs if line["event"] == "metrics.unavailable"]
    assert f"METRICS_ADDRESS: cannot listen at {address}: " in line["error"]
    assert "set METRICS_ADDRESS to another HOST:PORT" in line["error"]


def test_a_client_that_sends_nothing_does_not_keep_the_next_one_waiting_for_long() -> None:
    with exposed(Exposition(Address("127.0.0.1", 0), make_registry())) as exposition:
        port = wait(lambda: exposition.port)
        with socket.create_connection(("127.0.0.1", port)):
            assert "seen_total" in read(port)


def test_a_client_that_drips_is_cut_off(monkeypatch: Any) -> None:
    monkeypatch.setattr("config.exposition.request_seconds", 0.3)
    with exposed(Exposition(Address("127.0.0.1", 0), make_registry())) as exposition:
        port = wait(lambda: exposition.port)
        with socket.create_connection(("127.0.0.1", port)) as slow:
            dripping = threading.Thread(target=drip, args=(slow,), daemon=True)
            dripping.start()
            assert "seen_total" in read(port)
            dripping.join(10)
            assert not dripping.is_alive(), "its connection was never cut"


def drip(connection: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection.sendall(b"a")
            sleep(0.01)


broken = """
import os, shutil, tempfile
from worker.metrics.group import DirectoryUnusable, share_metrics
metrics, registry, directory = share_metrics()
sizes = {file.name.partition(str(os.getpid()))[0]: file.stat().st_blocks * 512 for file in directory.glob("*.db")}
assert min(sizes.values()) >= 1 << 18, sizes
shutil.rmtree(directory)
metrics.count_token_request("p", "probe", None)
metrics.note_budget("p", 60, 6)
tempfile.tempdir = "/proc/nowhere"
try:
    share_metrics()
except DirectoryUnusable as error:
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ
    print("refused:", error)
"""


def test_what_fails_while_counting_harms_no_flow(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", broken],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "refused: /proc/nowhere/" in run.stdout


program = """
import sys, time
from worker.metrics.group import share_metrics
from config.exposition import Exposition
from config.setting_texts import Address
metrics, registry, directory = share_metrics()
metrics.count_token_request("p", "probe", None)
metrics.note_budget("p", 60, int(sys.argv[2]))
print(directory, flush=True)
Exposition(Address("127.0.0.1", int(sys.argv[1])), registry, directory / "listener.lock", metrics.fade).start()
sys.stdin.read()
"""


def test_processes_of_one_start_are_shown_as_one_whichever_of_them_has_ended(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(port), left],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for left in ("6", "30")
    ]
    try:
        directories = {process.stdout.readline() for process in started if process.stdout is not None}
        assert len(directories) == 1

        def shows(*lines: str) -> bool:
            try:
                text = read(port)
            except OSError:
                return False
            return all(line in text for line in lines)

        counted = 'breezesync_token_requests_total{grant="probe",outcome="unread",provider="p"} 2.0'
        wait(lambda: shows(counted, 'breezesync_budget_used_ratio{provider="p"} 0.9'))
        started[0].kill()
        started[0].wait()
        wait(lambda: shows(counted, 'breezesync_budget_used_ratio{provider="p"} 0.5'), 15)
    finally:
        for process in started:
            process.kill()
            process.communicate()
