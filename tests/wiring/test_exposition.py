"""Metrics at METRICS_ADDRESS, of one process and of several."""

import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
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


program = """
import sys, time
from worker.metrics.group import share_metrics
from config.exposition import Exposition
from config.setting_texts import Address
metrics, registry, directory = share_metrics()
metrics.count_token_request("p", "probe", None)
metrics.note_budget("p", 60, int(sys.argv[2]))
Exposition(Address("127.0.0.1", int(sys.argv[1])), registry, directory / "listener.lock", metrics.fade).start()
print(directory, flush=True)
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
