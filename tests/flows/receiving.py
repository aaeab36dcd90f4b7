"""An application's endpoint for webhooks that behaves as a test wants it to, over a real socket."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import time_machine
from standardwebhooks.webhooks import Webhook

from models.crypto.secrets import Secret

Behaviour = Callable[["Received"], int | None]
"""The status that a delivery is answered with; None to close the connection without an answer."""


@dataclass(frozen=True)
class Received:
    """One delivery; `number` counts the deliveries of its event."""

    path: str
    headers: dict[str, str]
    body: bytes
    number: int

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> Any:
        """The event, whoever signed it."""
        return json.loads(self.body)

    def verify(self, secret: Secret) -> Any:
        """Return the event, as the reference library verifies it; it raises if the signature is wrong."""
        with time_machine.travel(datetime.fromtimestamp(int(self.headers["webhook-timestamp"]), UTC)):
            return Webhook(secret.reveal()).verify(self.body, self.headers)


@dataclass
class Receiver:
    """`behave` answers; `taken` are the deliveries that were answered with 2xx, in their order."""

    behave: Behaviour = lambda received: 204
    url: str = ""
    received: list[Received] = field(default_factory=list)
    taken: list[Received] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int | None:
        with self.lock:
            number = 1 + sum(each.id == headers["webhook-id"] for each in self.received)
            one = Received(path, headers, body, number)
            self.received.append(one)
        status = self.behave(one)
        if status is not None and 200 <= status <= 299:
            with self.lock:
                self.taken.append(one)
        return status


@dataclass
class Listener:
    """A server whose deliveries go to the newest receiver; a late one goes to the receiver that it was meant for."""

    url: str = ""
    receiver: Receiver = field(default_factory=Receiver)

    def renew(self) -> Receiver:
        self.receiver = Receiver(url=self.url)
        return self.receiver


@contextmanager
def receiving() -> Iterator[Listener]:
    """Listen on a free port until the block ends."""
    listener = Listener()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            receiver = listener.receiver
            body = self.rfile.read(int(self.headers["content-length"]))
            status = receiver.take(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            self.close_connection = status is None
            with suppress(ConnectionError):
                if status is not None:
                    self.send_response(status)
                    self.send_header("Location", f"{receiver.url}/elsewhere")
                    self.send_header("Content-Length", "0")
                    self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing: what came is in `received`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    listener.url = f"http://127.0.0.1:{server.server_port}/webhooks"
    try:
        yield listener
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
