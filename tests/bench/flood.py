"""Floods a web process on this machine, as one stranger can, and prints what that cost.

`python -m tests.bench.flood` compares our web process with a bare ASGI application under plain uvicorn.
`--checkout DIRECTORY` floods the code of another checkout.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.processes import CHECKOUT
from tests.servers import plain_environment, reserved_port, running_valkey, wait_until

megabyte = 1_000_000
half_open = 1_500
longest = 75.0
bare = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"not here"})
"""


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    pid: int
    port: int

    def memory(self) -> float:
        """Return the resident set in MB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1_024 / megabyte


def ask(port: int) -> float:
    """Return the seconds that one small request takes, as another user makes it."""
    begun = time.monotonic()
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=60) as wire:
        wire.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        while wire.recv(4_096):
            pass
    return time.monotonic() - begun


class Asking:
    """Asks all the time in a thread, and keeps the longest wait and the highest memory."""

    def __init__(self, target: Target) -> None:
        self.target, self.slowest, self.highest = target, 0.0, target.memory()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._ended.wait(0.02):
            self.slowest = max(self.slowest, ask(self.target.port))
            self.highest = max(self.highest, self.target.memory())

    def __enter__(self) -> "Asking":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def pour(port: int, first: bytes, portion: bytes, total: int, patience: float = 60) -> int:
    """Send up to `total` bytes in portions, and return how many the server took before it closed."""
    sent, until = 0, time.monotonic() + patience
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as wire:
        wire.sendall(first)
        while sent < total and time.monotonic() < until:
            wire.sendall(portion)
            sent += len(portion)
        wire.settimeout(0.5)
        wire.recv(1)
    return sent


def describe(sent: int, before: float, asking: Asking) -> str:
    taken = f"{sent / megabyte:.1f} MB taken"
    return f"{taken}, {before:.0f} -> {asking.highest:.0f} MB, slowest request {asking.slowest:.2f} s"


def flood_headers(target: Target) -> str:
    line = b"".join(b"X-%05d: %s\r\n" % (n, b"a" * 980) for n in range(100))
    before = target.memory()
    with Asking(target) as asking:
        sent = pour(target.port, b"GET / HTTP/1.1\r\nHost: a\r\n", line, 97 * megabyte)
    return describe(sent, before, asking)


def flood_line(first: bytes) -> Callable[[Target], str]:
    def flood(target: Target) -> str:
        before = target.memory()
        with Asking(target) as asking:
            sent = pour(target.port, first, b"a" * 65_536, 97 * megabyte)
        return describe(sent, before, asking)

    return flood


def hold_open(target: Target) -> str:
    """Open half requests and see how many the process still has, and for how long."""
    with ExitStack() as stack:
        for _ in range(half_open):
            wire = stack.enter_context(socket.create_connection(("127.0.0.1", target.port), timeout=10))
            with suppress(OSError):
                wire.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
        begun, slowest = time.monotonic(), ask(target.port)
        most = count_open(target)
        while count_open(target) > 0 and time.monotonic() - begun < longest:
            time.sleep(0.2)
        gone = count_open(target) == 0
        seconds = time.monotonic() - begun
    kept = f"gone after {seconds:.0f} s" if gone else f"still open after {seconds:.0f} s"
    return f"{most} held, {kept}, slowest request {slowest:.2f} s"


def count_open(target: Target) -> int:
    """Return the established connections to the target's port that its side has not closed."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{target.port:04X}") and row[3] == "01" for row in rows)


floods: dict[str, Callable[[Target], str]] = {
    "97 MB of headers": flood_headers,
    "one endless header": flood_line(b"GET / HTTP/1.1\r\nHost: a\r\nX: "),
    "one endless address": flood_line(b"GET /"),
    f"{half_open} half-open requests": hold_open,
}


@contextmanager
def serving(name: str, arguments: list[str], environment: dict[str, str], directory: Path) -> Iterator[Target]:
    with reserved_port() as port, (directory / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", *arguments, "--port", str(port)],
            cwd=directory,
            env={**plain_environment(), "PYTHONUNBUFFERED": "1", **environment},
            stdout=log,
            stderr=log,
        )
        try:
            wait_until(lambda: is_listening(port), f"{name} listens", 60)
            yield Target(name, process.pid, port)
        finally:
            process.kill()
            process.wait()


def is_listening(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, default=CHECKOUT)
    parser.add_argument("--http", default="auto", help="the bare application's parser: auto, h11 or httptools")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="breezesync-flood-") as name, running_valkey() as valkey:
        directory = Path(name)
        (directory / "bare.py").write_text(bare)
        settings = {
            "PYTHONPATH": str(chosen.checkout.resolve()),
            "DATABASE_URL": f"sqlite:///{directory}/flood.db",
            "REDIS_URL": valkey.url,
            "ENCRYPTION_KEYS": "k1:" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=",
            "CONNECT_SECRET": os.urandom(32).hex(),
            "BREEZEDOC_CLIENT_ID": "flood",
            "BREEZEDOC_CLIENT_SECRET": os.urandom(16).hex(),
            "BREEZEDOC_REDIRECT_URI": "http://127.0.0.1:8700/auth/breezedoc/callback",
            "OPERATOR_ADDRESS": "",
        }
        targets = {
            "bare": (["bare:app", "--http", chosen.http, "--no-access-log"], {"PYTHONPATH": str(directory)}),
            "web": (["--factory", "worker.main:web", "--no-access-log"], settings),
        }
        for title, flood in floods.items():
            for label, (arguments, environment) in targets.items():
                with serving(label, arguments, environment, directory) as target:
                    ask(target.port)
                    print(f"{title:<28} {label:<5} {flood(target)}", flush=True)


if __name__ == "__main__":
    main()
