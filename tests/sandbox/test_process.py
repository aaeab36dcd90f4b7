"""The sandbox as a process, and as HTTP on a bare socket."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from sandbox.__main__ import read_options
from sandbox.client import Control
from tests.sandbox.conftest import Application


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "--port", "0", "--passport", "13"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with started:
        yield started
        if started.poll() is None:
            started.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_at_once_and_cleanly(process: subprocess.Popen[str], number: signal.Signals) -> None:
    assert process.stdout is not None
    url = process.stdout.readline().strip().removeprefix("sandbox listening on ")
    with Control(url) as control:
        assert control.state()["settings"]["passport"] == 13
        control.set(latency_ms=60_000)
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{url}/api/me", timeout=0.2)
        os.kill(process.pid, number)
        rest = process.communicate(timeout=5)
    assert (process.returncode, rest) == (0, ("", ""))


def test_a_taken_port_is_said_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [sys.executable, "-m", "sandbox", "--port", port], capture_output=True, text=True, check=False
        )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"can't listen on 127.0.0.1:{port}")
    assert "Traceback" not in ended.stderr


def test_options_come_from_the_environment_and_the_command_line_wins() -> None:
    environment = {"SANDBOX_CLIENT_ID": "from-env", "SANDBOX_PORT": "9", "SANDBOX_REDIRECT_URI": "http://a/, http://b/"}
    settings, host, port = read_options(["--port", "10", "--rate-limit", "5"], environment)
    assert (settings.client_id, settings.redirect_uris) == ("from-env", ("http://a/", "http://b/"))
    assert (settings.rate_limit, host, port) == (5, "127.0.0.1", 10)


@pytest.mark.parametrize("wrong", [["--passport", "11"], ["--rate-limit", "-1"], ["--port", "x"]])
def test_a_wrong_option_is_wrong_usage(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_options(wrong, {})
    assert ended.value.code == 2


def talk(app: Application, sent: bytes) -> bytes:
    """Sends raw bytes and reads until the sandbox closes."""
    address = urlsplit(app.provider.url)
    with socket.create_connection((address.hostname, address.port), timeout=5) as link:
        link.sendall(sent)
        received = b""
        while part := link.recv(65536):
            received += part
    return received


def test_pipelined_requests_are_answered_in_order(app: Application) -> None:
    app.control.inject("api", "before", "late", delay_ms=50, count=1)
    first = b"GET /api/me HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    received = talk(app, first + first + last)
    assert received.count(b"HTTP/1.1 401") == 2
    assert received.endswith(b'{"status":"ok"}')


def test_head_has_no_body(app: Application) -> None:
    received = talk(app, b"HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200 OK")
    assert received.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n" + b"x" * 1_048_577, 413),
    ],
    ids=["not HTTP", "too large"],
)
def test_what_is_no_reasonable_request_is_refused_and_closed(app: Application, sent: bytes, status: int) -> None:
    received = talk(app, sent)
    assert received.startswith(f"HTTP/1.1 {status}".encode())


@pytest.mark.parametrize(
    "body",
    [b"[1]", b"{", b"\xff\xfe", b'{"grant_type": {"a": 1}}', b'{"grant_type": "refresh_token", "refresh_token": [1]}'],
)
def test_a_strange_token_request_is_answered_like_any_malformed_one(app: Application, body: bytes) -> None:
    answer = app.http.post("/oauth/token", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
