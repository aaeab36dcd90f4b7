"""Child processes: started with a log each, checked, asked to stop, and killed if they don't."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from models.private_files import make_directory

# Reads the children's ids from standard input; its end means that the parent is gone, by SIGKILL as well.
WATCHDOG_SCRIPT = """
while read -r pid; do all="$all $pid"; done
kill -TERM $all
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25; do
  kill -0 $all || exit 0
  sleep 1
done
for pid in $all; do kill -KILL -- "-$pid"; done
"""


class ChildDied(Exception):
    """A child ended without being asked to; `tail` is the end of its log."""

    def __init__(self, name: str, code: int, tail: str) -> None:
        ended = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        super().__init__(f"{name} {ended}")
        self.tail = tail


@dataclass(slots=True)
class Child:
    """A process that leads a group and session of its own, so that a terminal's Ctrl-C does not reach it."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    reader: IO[str]

    def tail(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def ask_to_stop(self) -> None:
        """Send SIGTERM to the leader alone: it passes it on, and a second one would end its children early."""
        with suppress(ProcessLookupError):
            self.process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to the whole group."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass(slots=True)
class Processes:
    """The children of this process; a watchdog ends them if this process is killed."""

    logs: Path
    children: dict[str, Child] = field(default_factory=dict)
    watchdog: subprocess.Popen[bytes] | None = None

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        make_directory(self.logs)
        log = self.logs / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own commands
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.children[name] = Child(name, process, log, log.open(errors="replace"))
        self._register(process.pid)

    def check(self) -> None:
        """Raise `ChildDied` if one has ended."""
        for child in self.children.values():
            code = child.process.poll()
            if code is not None:
                raise ChildDied(child.name, code, child.tail())

    def new_lines(self) -> list[tuple[str, str]]:
        """Return what the children have logged since the last call, each line with its child's name."""
        return [(c.name, line.rstrip("\n")) for c in self.children.values() for line in c.reader.readlines()]

    def stop(self, name: str | Sequence[str], seconds: float, is_urgent: Callable[[], bool]) -> list[str]:
        """Ask these to stop, wait, kill what still runs, and return the names of those killed.

        The wait is over as soon as `is_urgent` says so.
        """
        names = [name] if isinstance(name, str) else name
        asked = [self.children.pop(each) for each in names if each in self.children]
        for child in asked:
            child.ask_to_stop()
        deadline = time.monotonic() + seconds
        while any(c.process.poll() is None for c in asked) and time.monotonic() < deadline and not is_urgent():
            time.sleep(0.02)
        forced = [child for child in asked if child.process.poll() != 0]
        late = [child.name for child in asked if child.process.poll() is None]
        for child in forced:
            child.kill()
        for child in asked:
            child.reader.close()
        return late

    def stop_watchdog(self) -> None:
        if self.watchdog is not None:
            self.watchdog.kill()
            self.watchdog.communicate()

    def _register(self, pid: int) -> None:
        if self.watchdog is None:
            self.watchdog = subprocess.Popen(  # noqa: S603 - our own script
                ["/bin/sh", "-c", WATCHDOG_SCRIPT],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        if self.watchdog.stdin is not None:
            self.watchdog.stdin.write(f"{pid}\n".encode())
            self.watchdog.stdin.flush()
