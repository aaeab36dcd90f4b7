"""HTTP/1.1 over a socket: parse requests, write answers, and break connections if a fault says so."""

import asyncio
import contextlib
import signal
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

import httptools
import uvloop

from sandbox.app import App
from sandbox.client import Control
from sandbox.http import Answer, Request, answer_json
from sandbox.keeping import load_state
from sandbox.settings import Settings
from sandbox.state import SandboxState

LARGEST_BODY = 1 << 20
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


class Connection(asyncio.Protocol):
    """One client's connection: requests are answered one at a time, in order."""

    def __init__(self, app: App, connections: "set[Connection]") -> None:
        self._app = app
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport
        self._client_ip = ""
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._client_ip = transport.get_extra_info("peername")[0]
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let a running grant finish: a client that hangs up does not undo it."""
        self._connections.discard(self)
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._transport.close()
        except httptools.HttpParserError:
            self._write(answer_json(400, {"message": "Bad Request"}), keep_open=False, has_body=True)

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = {}
        self._body = bytearray()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > LARGEST_BODY:
            self._write(answer_json(413, {"message": "Payload Too Large"}), keep_open=False, has_body=True)

    def on_message_complete(self) -> None:
        if self._transport.is_closing():
            return
        path, _, query = self._url.decode("latin-1").partition("?")
        request = Request(
            self._parser.get_method().decode("ascii"),
            unquote(path) if "%" in path else path,
            query,
            self._headers,
            bytes(self._body),
            self._client_ip,
        )
        keep_open = self._parser.should_keep_alive()
        if self._task is not None or self._waiting:
            self._waiting.append((request, keep_open))
        elif self._app.is_calm():
            self._write(self._answer_at_once(request), keep_open, request.method != "HEAD")
        else:
            self._waiting.append((request, keep_open))
            self._task = asyncio.get_running_loop().create_task(self._answer_waiting())

    def _answer_at_once(self, request: Request) -> Answer:
        try:
            return self._app.answer_at_once(request)
        except Exception as bug:
            return self._report(request, bug)

    async def _answer_waiting(self) -> None:
        try:
            while self._waiting:
                request, keep_open = self._waiting.popleft()
                try:
                    answer = await self._app.answer_in_time(request)
                except Exception as bug:
                    answer = self._report(request, bug)
                self._write(answer, keep_open, request.method != "HEAD")
        finally:
            self._task = None

    def _report(self, request: Request, bug: Exception) -> Answer:
        """Answer 500 to a bug and log it, so that it does not look like a malformed request."""
        asyncio.get_running_loop().call_exception_handler({"message": request.path, "exception": bug})
        return answer_json(500, {"message": "Server Error"})

    def _write(self, answer: Answer, keep_open: bool, has_body: bool) -> None:
        if self._transport.is_closing():
            return
        if answer.ending == "drop":
            self.reset()
            return
        body = answer.body if has_body else b""
        if answer.ending == "cut":
            body, keep_open = body[: len(body) // 2], False
        self._transport.write(_render_head(answer, keep_open, self._app.sandbox.clock.now()) + body)
        if not keep_open:
            self._transport.close()

    def reset(self) -> None:
        """Close at once, with a reset."""
        link = self._transport.get_extra_info("socket")
        if link is not None and link.fileno() != -1:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._transport.abort()

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._transport.abort()


def _render_head(answer: Answer, keep_open: bool, now: float) -> bytes:
    lines = [
        _STATUS_LINES.get(answer.status) or f"HTTP/1.1 {answer.status} Unnamed\r\n",
        f"content-type: {answer.content_type}\r\ncontent-length: {len(answer.body)}\r\n",
        f"date: {formatdate(now, usegmt=True)}\r\n",
        *(f"{name}: {value}\r\n" for name, value in answer.headers.items()),
        "\r\n" if keep_open else "connection: close\r\n\r\n",
    ]
    return "".join(lines).encode("latin-1", "replace")


def open_socket(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 is any free port. Raises OSError if the port is in use."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def name_url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve(settings: Settings, listener: socket.socket, stopping: asyncio.Event) -> None:
    """Serves until `stopping` is set, then ends every connection and every request under way at once."""
    sandbox, state_file = SandboxState(settings), Path(settings.state_file) if settings.state_file else None
    if state_file is not None:
        load_state(sandbox, state_file)
    app = App(sandbox, state_file)
    connections: set[Connection] = set()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(app, connections), sock=listener)
    try:
        await stopping.wait()
    finally:
        server.close()
        for connection in list(connections):
            connection.stop()
        while connections:
            await asyncio.sleep(0)


def run_process(settings: Settings, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; print the URL once it listens."""

    async def run() -> None:
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        listener = open_socket(host, port)
        print(f"sandbox listening on {name_url(listener)}", flush=True)  # noqa: T201  # what a caller waits for
        await serve(settings, listener, stopping)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


@dataclass(frozen=True, slots=True)
class Running:
    """A sandbox in a background thread."""

    url: str
    control: Control
    settings: Settings

    @property
    def client_id(self) -> str:
        return self.settings.client_id

    @property
    def client_secret(self) -> str:
        return self.settings.client_secret

    @property
    def redirect_uri(self) -> str:
        return self.settings.redirect_uris[0]


@contextlib.contextmanager
def running(*, port: int = 0, **options: Any) -> Iterator[Running]:
    """Serve on 127.0.0.1 in a background thread until the block ends.

    `options` are the fields of `Settings`. An exception in the server's thread is raised when the block ends.
    """
    settings = Settings(**options)
    listener = open_socket("127.0.0.1", port)
    ready = threading.Event()
    failures: list[BaseException] = []
    handles: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def run() -> None:
        stopping = asyncio.Event()
        handles.append((asyncio.get_running_loop(), stopping))
        ready.set()
        await serve(settings, listener, stopping)

    def run_thread() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(run())
        except BaseException as failure:
            failures.append(failure)
        finally:
            ready.set()

    thread = threading.Thread(target=run_thread, name="sandbox", daemon=True)
    thread.start()
    ready.wait()
    try:
        with Control(name_url(listener)) as control:
            yield Running(control.url, control, settings)
    finally:
        for loop, stopping in handles:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stopping.set)
        thread.join()
        listener.close()
    if failures:
        raise failures[0]
