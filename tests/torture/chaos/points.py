"""The named points of the flows: what is armed there, and the trace of every point that a process came by.

A point reads `FLOW.STAGE.MOMENT`, for example `refresh.save.uncommitted`. Arming is putting a file into a directory;
the first process to come by takes it by renaming it, so that it goes off once. Tracing is one line a point, written
before anything else happens there: what a killed process had done can be read afterwards.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from models.errors import StoreUnavailable

kill_points = (
    "exchange.take.begin",
    "exchange.take.uncommitted",
    "exchange.take.committed",
    "exchange.request",
    "exchange.sent",
    "exchange.keep.answered",
    "exchange.keep.begin",
    "exchange.keep.uncommitted",
    "exchange.keep.committed",
    "exchange.connect.answered",
    "exchange.connect.uncommitted",
    "exchange.connect.committed",
    "refresh.take.begin",
    "refresh.take.uncommitted",
    "refresh.take.committed",
    "refresh.request",
    "refresh.sent",
    "refresh.save.answered",
    "refresh.save.begin",
    "refresh.save.uncommitted",
    "refresh.save.committed",
    "refresh.save.telling",
    "refresh.resolve.answered",
    "refresh.resolve.uncommitted",
    "refresh.resolve.committed",
    "disconnect.take.uncommitted",
    "disconnect.take.committed",
)
"""Where a process can be killed or stopped; `sent` is a moment after the request left, before its answer."""

park_points = ("refresh.save.parking", "refresh.save.parked", "exchange.keep.parking", "exchange.keep.parked")
"""Come by only where the pair could not be written."""

raise_points = ("refresh.save.begin", "refresh.save.uncommitted", "exchange.keep.begin", "exchange.keep.uncommitted")
"""Where something can be raised between an answer and its save."""

raised: dict[str, Callable[[], BaseException]] = {
    "unavailable": lambda: StoreUnavailable("the database went away"),
    "defect": lambda: ZeroDivisionError("a defect"),
    "memory": MemoryError,
}


class Points:
    """One process's view of the directory that it shares with the run that arms the points."""

    def __init__(self, directory: Path) -> None:
        self.armed = directory / "armed"
        self.taken = directory / "taken"
        for each in (self.armed, self.taken, directory / "traces"):
            each.mkdir(parents=True, exist_ok=True)
        self.trace = os.open(directory / "traces" / f"{os.getpid()}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def reach(self, point: str, **facts: object) -> None:
        """Note that this point was reached, then carry out what is armed there."""
        self.note(point, **facts)
        order = self.take(point)
        if order is not None:
            self.carry_out(order)

    def note(self, point: str, **facts: object) -> None:
        line = {"at": time.time(), "pid": os.getpid(), "point": point, **facts}
        os.write(self.trace, json.dumps(line).encode() + b"\n")

    def take(self, point: str) -> Mapping[str, Any] | None:
        """Return the order armed at this point, if there is one; no other process gets it."""
        for name in os.listdir(self.armed):
            if name.partition("~")[0] != point:
                continue
            mine = self.taken / f"{name}~{os.getpid()}"
            try:
                os.rename(self.armed / name, mine)
            except FileNotFoundError:
                continue
            order: Mapping[str, Any] = json.loads(mine.read_text())
            return order
        return None

    @staticmethod
    def carry_out(order: Mapping[str, Any]) -> None:
        match order["do"]:
            case "kill":
                os.killpg(os.getpgid(0), signal.SIGKILL)
                time.sleep(60)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "raise":
                raise raised[order["what"]]()
            case other:
                raise ValueError(f"unknown order: {other}")


@dataclass(frozen=True, slots=True)
class Fired:
    """An armed order that a process has carried out."""

    point: str
    pid: int
    order: Mapping[str, Any]


@dataclass
class ArmedPoints:
    """Arms points, and reports the orders that were carried out."""

    directory: Path
    counted: set[str] = field(default_factory=set)

    def arm(self, point: str, **order: object) -> str:
        """Write the order in one step, because processes read the directory meanwhile."""
        name = f"{point}~{uuid4().hex[:8]}"
        armed = self.directory / "armed"
        armed.mkdir(parents=True, exist_ok=True)
        beside = self.directory / name
        beside.write_text(json.dumps(order))
        beside.rename(armed / name)
        return name

    def is_armed(self, name: str) -> bool:
        return (self.directory / "armed" / name).exists()

    def disarm(self) -> None:
        for path in (self.directory / "armed").glob("*"):
            path.unlink(missing_ok=True)

    def read_fired(self) -> list[Fired]:
        """Return the orders that were taken since the last call."""
        found = []
        for path in sorted((self.directory / "taken").glob("*")):
            if path.name not in self.counted:
                self.counted.add(path.name)
                point, _, pid = path.name.split("~")
                found.append(Fired(point, int(pid), json.loads(path.read_text())))
        return found

    def traces(self) -> list[dict[str, Any]]:
        """Return every line of every process, each process's lines in order; a line cut short by a kill is left out."""
        lines: list[dict[str, Any]] = []
        for path in sorted((self.directory / "traces").glob("*.jsonl")):
            whole = (line for line in path.read_bytes().split(b"\n") if line.endswith(b"}"))
            lines.extend(json.loads(line) for line in whole)
        return lines
