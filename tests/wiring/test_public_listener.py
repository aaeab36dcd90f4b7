"""The public listener's limits: a stranger gets so much of it and no more, and keeps no one else out."""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import ip_network
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.servers import wait_until
from worker.web.guard import Allowance, BoundedStorage, Guard
from worker.web.headers import SecureHeaders, plain_headers
from worker.web.protocol import Bounds, block_of, harden_caller

HALF = b"GET / HTTP/1.1\r\nHost: a\r\n"
WHOLE = HALF + b"\r\n"


def refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainTextResponse("refused\n", status_code=error.status_code, headers=error.headers)


async def echo(request: Request) -> Response:
    return PlainTextResponse(f"{request.client.host if request.client else ''} {len(await request.body())}")


def guarded(allowance: Allowance) -> ASGIApp:
    app = Starlette(routes=[Route("/", echo, methods=["GET", "POST"])])
    return SecureHeaders(Guard(app, refuse, allowance), plain_headers)


@contextmanager
def listening(bounds: Bounds, app: ASGIApp | None = None, path: Path | None = None) -> Iterator[int]:
    """A hardened uvicorn in a thread, on a Unix socket if there is a `path`: its port."""

    def build() -> ASGIApp:
        harden_caller(bounds)
        return app or guarded(Allowance())

    config = uvicorn.Config(build, factory=True, log_config=None, lifespan="off")
    with socket.socket(socket.AF_INET if path is None else socket.AF_UNIX) as listener:
        listener.bind(("127.0.0.1", 0) if path is None else str(path))
        server = uvicorn.Server(config)
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started, "uvicorn listens")
            yield listener.getsockname()[1] if path is None else 0
        finally:
            server.should_exit = True
            thread.join()


def dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def rest_of(wire: socket.socket) -> bytes:
    """All that comes until the server closes."""
    received = b""
    with suppress(ConnectionError):
        while chunk := wire.recv(65_536):
            received += chunk
    return received


def talk(port: int, *portions: bytes) -> bytes:
    with dial(port) as wire:
        with suppress(ConnectionError):
            for portion in portions:
                wire.sendall(portion)
        return rest_of(wire)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nX: " + b"a" * 2_000_000,
        b"GET /" + b"a" * 2_000_000,
        HALF + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        HALF + b"".join(b"X-%d: a\r\n" % n for n in range(50_000)),
    ],
    ids=["an endless header", "an endless address", "a whole header too long", "endless headers"],
)
def test_headers_beyond_the_limit_are_refused(request_bytes: bytes) -> None:
    with listening(Bounds()) as port:
        received = talk(port, request_bytes)
        assert received == b"" or received.startswith(b"HTTP/1.1 431 "), received[:200]
        assert httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).status_code == 200


def test_headers_within_the_limit_pass() -> None:
    with listening(Bounds()) as port:
        received = talk(port, HALF + b"Connection: close\r\nX: " + b"a" * 15_000 + b"\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (b"", b""),
        (b"GET", b"HTTP/1.1 408 "),
        (HALF, b"HTTP/1.1 408 "),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf", b"HTTP/1.1 408 "),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", b"HTTP/1.1 408 "),
    ],
    ids=["nothing", "a word", "half the headers", "half a body", "an endless body"],
)
def test_a_request_that_does_not_come_in_time_is_ended(first: bytes, status: bytes) -> None:
    with listening(Bounds(request_time=0.2)) as port:
        begun = time.monotonic()
        received = talk(port, first)
    assert received[: len(status)] == status
    assert (status == b"") == (received == b"")
    assert time.monotonic() - begun < 5


def test_a_second_request_that_came_with_the_first_has_to_come_whole_as_well() -> None:
    late = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
    with listening(Bounds(request_time=0.2)) as port:
        begun = time.monotonic()
        received = talk(port, WHOLE + late)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in received
    assert time.monotonic() - begun < 5


def test_requests_whose_bodies_do_not_come_keep_no_one_out() -> None:
    with listening(Bounds(), guarded(Allowance(at_once=2))) as port, ExitStack() as stack:
        for _ in range(5):
            wire = stack.enter_context(dial(port))
            wire.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
        for _ in range(3):
            assert httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).status_code == 200


def test_what_strangers_send_writes_no_log(caplog: pytest.LogCaptureFixture) -> None:
    upgrade = HALF + b"Connection: upgrade, close\r\nUpgrade: h2c\r\n\r\n"
    with listening(Bounds()) as port:
        assert talk(port, b"X\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        assert talk(port, upgrade).startswith(b"HTTP/1.1 200 ")
    assert [each for each in caplog.records if each.levelname == "WARNING"] == []


def test_a_request_that_trickles_gets_no_more_time_for_each_byte() -> None:
    with listening(Bounds(request_time=0.3)) as port, dial(port) as wire:
        begun = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - begun < 5:
                wire.sendall(b"G")
                wire.settimeout(0.05)
                with suppress(TimeoutError):
                    if not wire.recv(1):
                        break
                    break
        assert time.monotonic() - begun < 3


def test_a_connection_that_asks_nothing_more_is_closed() -> None:
    with listening(Bounds(idle_time=0)) as port:
        assert talk(port, WHOLE).startswith(b"HTTP/1.1 200 ")


def test_half_open_requests_of_one_client_close_each_other_and_lock_no_one_out() -> None:
    with listening(Bounds(connections=10)) as port, ExitStack() as stack:
        wires = [stack.enter_context(dial(port)) for _ in range(40)]
        for wire in wires:
            with suppress(ConnectionError):
                wire.sendall(HALF)
        assert httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).status_code == 200
        closed = 0
        for wire in wires:
            wire.settimeout(0.05)
            with suppress(TimeoutError):
                closed += rest_of(wire) == b""
        assert closed >= 30


def test_all_connections_have_a_bound_that_proxies_reach_too() -> None:
    bounds = Bounds(connections=2, all_connections=5, proxies=(ip_network("127.0.0.0/8"),))
    with listening(bounds) as port, ExitStack() as stack:
        wires = [stack.enter_context(dial(port)) for _ in range(6)]
        wires[0].settimeout(5)
        assert rest_of(wires[0]) == b"", "the oldest made room"
        wires[1].sendall(WHOLE)
        assert wires[1].recv(100).startswith(b"HTTP/1.1 200 "), "a proxy may have more than another client"


def test_who_has_a_request_under_way_is_not_put_out() -> None:
    going = asyncio.Event()

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.wait_for(going.wait(), 5)
        await PlainTextResponse("at last")(scope, receive, send)

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/go":
            going.set()
            await PlainTextResponse("gone")(scope, receive, send)
        else:
            await wait(scope, receive, send)

    with listening(Bounds(connections=2), route) as port, dial(port) as first:
        first.sendall(WHOLE)
        with dial(port), dial(port), dial(port):
            talk(port, b"GET /go HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert b"at last" in first.recv(4_096)


@pytest.mark.parametrize(
    ("size", "status"), [(8_192, b"200"), (8_193, b"413"), (50_000_000, b"413")], ids=["most", "more", "much more"]
)
@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "in chunks"])
def test_a_body_is_bounded(size: int, status: bytes, chunked: bool) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    sent = min(size, 200_000)
    if chunked:
        request = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % size + b"a" * sent + b"\r\n0\r\n\r\n"
    else:
        request = head + b"Content-Length: %d\r\n\r\n" % size + b"a" * sent
    with listening(Bounds()) as port:
        received = talk(port, request)
    assert received == b"" or received.split()[1] == status


def test_a_client_has_so_many_requests_a_minute() -> None:
    with listening(Bounds(), guarded(Allowance(per_minute=3))) as port:
        answers = [httpx.get(f"http://127.0.0.1:{port}/", trust_env=False) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert 1 <= int(answers[3].headers["retry-after"]) <= 60


@pytest.mark.parametrize(
    ("proxies", "clients", "statuses"),
    [
        ((ip_network("127.0.0.0/8"),), ["203.0.113.1", "203.0.113.2"], [200, 200, 429]),
        ((ip_network("10.0.0.0/8"),), ["127.0.0.1", "127.0.0.1"], [200, 429, 429]),
    ],
    ids=["a trusted proxy", "a stranger"],
)
def test_only_a_trusted_proxy_says_whose_request_it_is(proxies: Any, clients: list[str], statuses: list[int]) -> None:
    with listening(Bounds(), guarded(Allowance(per_minute=1, proxies=proxies))) as port:
        answers = [
            httpx.get(f"http://127.0.0.1:{port}/", headers={"X-Forwarded-For": address}, trust_env=False)
            for address in ("203.0.113.1", "203.0.113.2", "198.51.100.1, 203.0.113.1")
        ]
    assert [answer.status_code for answer in answers] == statuses
    assert answers[0].text == f"{clients[0]} 0"


def ask_unix(path: Path, address: str) -> httpx.Response:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), trust_env=False) as client:
        return client.get("http://a/", headers={"X-Forwarded-For": address})


def test_a_proxy_on_a_unix_socket_says_whose_request_it_is(tmp_path: Path) -> None:
    with (
        listening(Bounds(connections=2), guarded(Allowance(per_minute=1)), tmp_path / "web") as _,
        ExitStack() as stack,
    ):
        for _ in range(4):
            idle = stack.enter_context(socket.socket(socket.AF_UNIX))
            idle.connect(str(tmp_path / "web"))
        answers = [ask_unix(tmp_path / "web", each) for each in ("203.0.113.1", "203.0.113.2", "8.8.8.8, 203.0.113.1")]
        idle.sendall(WHOLE)
        assert idle.recv(100).startswith(b"HTTP/1.1 200 "), "a proxy may have more connections than another client"
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].text == "203.0.113.1 0"


def test_a_client_whose_address_is_unknown_is_no_proxy() -> None:
    async def ask(address: str) -> int:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        headers = [(b"x-forwarded-for", address.encode())]
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": headers, "client": None}
        await guard(scope, receive, send)
        return int(sent[0]["status"])

    guard = guarded(Allowance(per_minute=1))
    assert [asyncio.run(ask(address)) for address in ("203.0.113.1", "203.0.113.2")] == [200, 429]


def test_long_bodies_of_strangers_are_held_in_small_number_and_keep_no_short_one_out() -> None:
    async def play() -> list[int]:
        gone = asyncio.Event()

        async def ask(size: int, *, is_whole: bool = True) -> int:
            sent: list[Message] = []
            given: list[Message] = [{"type": "http.request", "body": b"x" * size, "more_body": not is_whole}]

            async def send(message: Message) -> None:
                sent.append(message)

            async def receive() -> Message:
                if not given:
                    await gone.wait()
                return given.pop() if given else {"type": "http.disconnect"}

            headers = [(b"content-length", str(size + 1 - is_whole).encode())]
            scope = {"type": "http", "method": "POST", "path": "/hooks/a/b", "query_string": b"", "headers": headers}
            await guard(scope | {"client": ("203.0.113.1", 1)}, receive, send)
            return int(sent[0]["status"])

        halves = [asyncio.create_task(ask(9_000, is_whole=False)) for _ in range(3)]
        refused, _ = await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
        statuses = [await each for each in refused] + [await ask(8_000), await ask(9_000)]
        gone.set()
        await asyncio.gather(*halves)
        return [*statuses, await ask(9_000)]

    guard = guarded(Allowance(long_bodies=2))
    assert asyncio.run(play()) == [503, 404, 503, 404]


def test_a_flood_from_many_addresses_leaves_so_many_counts_and_no_more() -> None:
    storage = BoundedStorage(100)
    counts = [storage.incr(f"198.51.{n // 250}.{n % 250}", 60) for n in range(5_000)]
    assert set(counts) == {1}
    assert len(storage.windows) == 100
    assert [storage.incr("198.51.19.249", 60), storage.incr("198.51.0.0", 60)] == [2, 1]
    assert len(storage.windows) == 100


def test_a_count_ends_with_its_window() -> None:
    storage = BoundedStorage(2)
    assert [storage.incr("a", 60), storage.incr("a", 60), storage.incr("b", -1), storage.incr("b", -1)] == [1, 2, 1, 1]
    assert (storage.get("a"), storage.get("b")) == (2, 0)
    storage.clear("a")
    assert (storage.get("a"), storage.reset(), storage.check()) == (0, 1, True)


def test_more_requests_at_once_than_it_can_serve_are_put_off() -> None:
    with listening(Bounds(), guarded(Allowance(at_once=0))) as port:
        answer = httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_no_answer_names_the_server_and_each_has_the_headers() -> None:
    with listening(Bounds()) as port:
        for request in (WHOLE, b"hello\r\n\r\n"):
            received = talk(port, request.replace(b"Host: a\r\n", b"Host: a\r\nConnection: close\r\n")).lower()
            assert b"\r\nserver:" not in received
            assert b"x-content-type-options: nosniff" in received


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("203.0.113.1", "203.0.113.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("203.0.113.1", "::ffff:203.0.113.1", True),
    ],
)
def test_an_ipv6_network_is_one_client(one: str, other: str, is_same: bool) -> None:
    assert (block_of(one) == block_of(other)) is is_same
