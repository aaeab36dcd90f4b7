"""The breezesync that the life is played against: one started for it, or one that runs already."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
ORIGIN = "http://127.0.0.1:8701"
"""The demo's application; it follows redirects to there itself, so that nothing has to listen."""
START_SECONDS = 45.0
STOP_SECONDS = 40.0


class StackError(Exception):
    """It did not start, or did not stop as it should; the text says why."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Where everything is. `command` is the command line's beginning, to be run in `directory` with `environment`.

    `return_to` is where the application gets its users back, if it confirms what they bring along.
    """

    web_url: str
    sandbox_url: str
    redis_url: str
    database_url: str
    command: Sequence[str]
    directory: Path | None = None
    environment: Mapping[str, str] | None = None
    children: tuple[int, ...] = ()
    return_to: str | None = None


class OwnStack:
    """`breezesync run` with fresh keys in a new directory: no settings, data or processes of the user's take part."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._command = [sys.executable, "-m", "worker"]
        self._environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        self._environment["PYTHONPATH"] = str(CHECKOUT)
        self._environment |= {"CONNECT_CONFIRMATION": "application", "RETURN_ORIGINS": ORIGIN, "APP_NAME": "The demo"}
        self._said = directory / "said.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Stack:
        """Return once it is ready. Raises `StackError` with its output if it gives up."""
        state = self.directory / "state.json"
        web_port, sandbox_port, operator_port = find_free_ports(3)
        ports = ["--port", str(web_port), "--sandbox-port", str(sandbox_port), "--operator-port", str(operator_port)]
        with self._said.open("wb") as said:
            process = self._process = subprocess.Popen(  # noqa: S603 - our own command
                [*self._command, "run", *ports, "--state", str(state)],
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not state.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise StackError(f"breezesync run did not become ready: {tail_of(self._said, 5)}")
            time.sleep(0.05)
        found: dict[str, Any] = json.loads(state.read_text())
        return Stack(
            found["web_url"],
            found["sandbox_url"],
            found["redis_url"],
            found["database_url"],
            self._command,
            self.directory,
            self._environment,
            tuple(found["children"].values()),
            f"{ORIGIN}/connected",
        )

    def stop(self) -> None:
        """Send SIGINT, as Ctrl-C does. Raises `StackError` if it does not end by itself with success."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            code = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise StackError(f"it did not stop within {STOP_SECONDS:g} s") from None
        if code != 0:
            raise StackError(f"it ended with {code}: {tail_of(self._said, 5)}")

    def tails(self) -> dict[str, str]:
        """The end of every process's log, by its name."""
        return {log.stem: tail_of(log, 12) for log in sorted((self.directory / "var" / "log").glob("*.log"))}


@contextmanager
def own_stack() -> Iterator[OwnStack]:
    """One that is stopped and leaves nothing behind, whatever happens in the block."""
    with tempfile.TemporaryDirectory(prefix="breezesync-demo-", ignore_cleanup_errors=True) as name:
        stack = OwnStack(Path(name))
        try:
            yield stack
        finally:
            with suppress(StackError):
                stack.stop()


def still_alive(pids: Sequence[int]) -> list[int]:
    """Those of the processes that have not ended."""

    def lives(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    return [pid for pid in pids if lives(pid)]


def find_free_ports(count: int) -> list[int]:
    """Return different free ports of 127.0.0.1."""
    holders = [socket.socket() for _ in range(count)]
    try:
        for holder in holders:
            holder.bind(("127.0.0.1", 0))
        return [holder.getsockname()[1] for holder in holders]
    finally:
        for holder in holders:
            holder.close()


def read_variable(name: str, environment: Mapping[str, str] = os.environ) -> str:
    """The variable, or what the file holds that `NAME_FILE` names, or nothing."""
    path = environment.get(f"{name}_FILE", "")
    return environment.get(name, "") or (Path(path).read_text().strip() if path else "")


def tail_of(log: Path, lines: int) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
