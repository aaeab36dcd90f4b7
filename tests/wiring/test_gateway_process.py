"""The gateway as a process of its own: killed, stopped, and with the bounds that its listener has."""

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

import sandbox
from tests.databases import create_sqlite
from tests.harness import House, build_house
from tests.servers import plain_environment, reserved_port, wait_until

CHECKOUT = Path(__file__).parents[2]


@dataclass
class SlowApi:
    """An API that answers one request when it is told to."""

    listener: socket.socket
    seen: threading.Event = field(default_factory=threading.Event)
    answers: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def serve(self) -> None:
        client, _ = self.listener.accept()
        with client, suppress(OSError):
            client.recv(65_536)
            self.seen.set()
            self.answers.wait(60)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone")


@pytest.fixture
def api() -> Iterator[SlowApi]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        slow = SlowApi(listener)
        thread = threading.Thread(target=slow.serve)
        thread.start()
        yield slow
        slow.answers.set()
        with suppress(OSError), socket.create_connection(listener.getsockname(), 1):
            pass
        thread.join(10)


@pytest.fixture(scope="module")
def provider() -> Iterator[sandbox.Running]:
    with sandbox.running() as running:
        yield running


@pytest.fixture
def house(provider: sandbox.Running, tmp_path: Path) -> Iterator[House]:
    built = build_house(create_sqlite(tmp_path / "b.db"), provider, tmp_path / "spool")
    yield built
    built.close()


@contextmanager
def running_gateway(house: House, redis_url: str, api: SlowApi, directory: Path) -> Iterator[tuple[str, Any]]:
    with reserved_port() as port:
        environment = {
            **plain_environment(),
            "PYTHONPATH": str(CHECKOUT),
            "DATABASE_URL": f"sqlite:///{directory}/b.db",
            "REDIS_URL": redis_url,
            "ENCRYPTION_KEYS": house.keys[0].line().reveal(),
            "GATEWAY_KEYS": f"application:{sha256(b'a key').hexdigest()}",
            "BREEZEDOC_API_URL": api.url,
        }
        words = [sys.executable, "-m", "uvicorn", "--factory", "worker.main:gateway", "--port", str(port)]
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(words, env=environment, cwd=directory, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: answers(f"{url}/readyz"), "the gateway is ready", 90)
            yield url, process
        finally:
            process.kill()
            process.wait()


def answers(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(url, trust_env=False).status_code == 200
    return False


def call(url: str, connection_id: str) -> httpx.Response:
    path = f"/v1/connections/{connection_id}/proxy/documents"
    return httpx.get(f"{url}{path}", headers={"Authorization": "Bearer a key"}, trust_env=False, timeout=60)


def test_a_call_that_left_is_in_the_audit_although_the_gateway_was_killed(
    house: House, redis_url: str, api: SlowApi, tmp_path: Path
) -> None:
    ada = house.connect("ada", 1)

    def call_in_vain() -> None:
        with suppress(httpx.TransportError):
            call(url, ada.id)

    with running_gateway(house, redis_url, api, tmp_path) as (url, process):
        calling = threading.Thread(target=call_in_vain)
        calling.start()
        assert api.seen.wait(60)
        process.kill()
        calling.join(60)
    with house.store.reading() as tx:
        [line] = [each for each in tx.audit.newest({}, None, 100) if each.action == "call.made"]
    assert (line.actor, line.connection_id) == ("gateway:application", ada.id)


def test_a_call_that_is_under_way_is_answered_and_logged_when_the_gateway_stops(
    house: House, redis_url: str, api: SlowApi, tmp_path: Path
) -> None:
    ada = house.connect("ada", 1)
    answered: list[httpx.Response] = []
    with running_gateway(house, redis_url, api, tmp_path) as (url, process):
        calling = threading.Thread(target=lambda: answered.append(call(url, ada.id)))
        calling.start()
        assert api.seen.wait(60)
        process.send_signal(signal.SIGTERM)
        api.answers.set()
        calling.join(60)
        assert process.wait(30) in (0, -signal.SIGTERM), "uvicorn passes the signal on when all is done"
    assert [(each.status_code, each.text) for each in answered] == [(200, "done")]
    with house.store.reading() as tx:
        assert tx.journal.calls_of(ada.id)[-1].path == "/documents"
