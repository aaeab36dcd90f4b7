"""A proxy before a token endpoint: forwards, drops, delays or cuts requests, and counts what came through."""

import hashlib
import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import parse_qs

Fault = Literal["none", "dropped before", "dropped after", "cut", "late"]


@dataclass
class Shown:
    """What the server did with one refresh token: how often it saw it, and how many new pairs it gave for it."""

    seen: int = 0
    pairs: int = 0


@dataclass
class Proxy:
    """`fault` hits the next request, and only that. Each answer is held for `hold` seconds; `holding` counts those."""

    server_port: int
    url: str = ""
    fault: Fault = "none"
    struck: Counter[str] = field(default_factory=Counter)
    shown: dict[str, Shown] = field(default_factory=dict)
    hold: Callable[[], float] = lambda: 0.0
    holding: int = 0

    def take_fault(self) -> Fault:
        fault, self.fault = self.fault, "none"
        if fault != "none":
            self.struck[fault] += 1
        return fault

    def wait(self) -> None:
        seconds = self.hold()
        if seconds:
            self.holding += 1
            time.sleep(seconds)
            self.holding -= 1

    def send_on(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server_port, timeout=60)
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@contextmanager
def running_proxy(server_port: int) -> Iterator[Proxy]:
    proxy = Proxy(server_port)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            token = parse_qs(body.decode()).get("refresh_token", [""])[0]
            fault = proxy.take_fault()
            self.close_connection = True
            if fault == "dropped before":
                return
            named = {name: self.headers[name] for name in ("content-type", "authorization", "accept")}
            status, answer = proxy.send_on(self.path, named, body)
            if token:
                shown = proxy.shown.setdefault(hashlib.sha256(token.encode()).hexdigest(), Shown())
                shown.seen += 1
                shown.pairs += status == 200
            proxy.wait()
            if fault == "dropped after":
                return
            if fault == "late":
                self.connection.settimeout(60)
                self.connection.recv(1)
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            try:
                self.wfile.write(answer[: len(answer) // 2] if fault == "cut" else answer)
            except OSError:
                return

        def log_message(self, *args: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield proxy
    server.shutdown()
    server.server_close()
    thread.join()
