"""Act when a request or a save takes too long: one thread of the process watches all their deadlines."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from heapq import heapify, heappop, heappush
from itertools import count
from time import monotonic

import structlog

few = 64
"""So many deadlines that have ended may wait to be thrown away."""
longest_save = timedelta(seconds=3)
"""What takes longer to save is kept elsewhere as well: its process may end before the save does."""


@dataclass(slots=True, order=True)
class Deadline:
    """When to act, by the monotonic clock; `act` is None once it has ended."""

    at: float
    number: int
    act: Callable[[], object] | None = field(compare=False)


class Watch:
    """The deadlines of one process. Its thread starts with the first of them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._numbers = count()
        self._waiting: list[Deadline] = []
        self._ended = 0
        self._thread: threading.Thread | None = None

    def add(self, seconds: float, act: Callable[[], object]) -> Deadline:
        """Have `act` called then, unless it is ended before. Raises RuntimeError if no thread can be started."""
        with self._changed:
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                thread.start()
                self._thread = thread
            deadline = Deadline(monotonic() + seconds, next(self._numbers), act)
            heappush(self._waiting, deadline)
            if self._waiting[0] is deadline:
                self._changed.notify()
        return deadline

    def end(self, deadline: Deadline) -> None:
        """Do not act any more. Race: if it acts at this moment, this waits until it has."""
        with self._changed:
            if deadline.act is None:
                return
            deadline.act = None
            self._ended += 1
            if self._ended > few and self._ended > len(self._waiting) // 2:
                self._waiting = [each for each in self._waiting if each.act is not None]
                heapify(self._waiting)
                self._ended = 0

    def __len__(self) -> int:
        """Return how many deadlines it remembers, with those that have ended and were not thrown away yet."""
        return len(self._waiting)

    def _run(self) -> None:
        with self._changed:
            while True:
                left = self._waiting[0].at - monotonic() if self._waiting else None
                if left is None or left > 0:
                    self._changed.wait(left)
                    continue
                due = heappop(self._waiting)
                act, due.act = due.act, None
                if act is None:
                    self._ended -= 1
                    continue
                try:
                    act()
                except RuntimeError as error:
                    # The machine has no thread left for what was to begin; the other deadlines are still watched.
                    structlog.get_logger("deadlines").error("thread.unavailable", error=str(error))


class Deadlines:
    """The watch of whichever process asks: a worker process is forked, and has neither its parent's thread nor, in a
    state that it could rely on, its lock."""

    def __init__(self) -> None:
        self._watches: dict[int, Watch] = {}

    @property
    def watch(self) -> Watch:
        """Return this process's watch."""
        pid = os.getpid()
        watch = self._watches.get(pid)
        # Race: two threads of a new process ask at once; setdefault lets them have the same watch.
        return self._watches.setdefault(pid, Watch()) if watch is None else watch

    @contextmanager
    def within(self, seconds: float, act: Callable[[], object]) -> Iterator["Within"]:
        """Call `act` on another thread if the block has not ended in that time. It must not wait for anything."""
        within = Within(self.watch, seconds, act)
        try:
            yield within
        finally:
            within.end()


class Within:
    """The deadline of a block that runs: `until` is when it acts, by the monotonic clock."""

    def __init__(self, watch: Watch, seconds: float, act: Callable[[], object]) -> None:
        self._watch, self._act = watch, act
        self._begin(seconds)

    def _begin(self, seconds: float) -> None:
        self.until = monotonic() + seconds
        self._deadline = self._watch.add(seconds, self._act)

    def end(self) -> None:
        self._watch.end(self._deadline)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let the time that the inner block takes not count: it does something else."""
        self.end()
        left = self.until - monotonic()
        try:
            yield
        finally:
            self._begin(left)


deadlines = Deadlines()
"""Those of the process; it is empty, and has no thread, until something is sent."""


@contextmanager
def shield(keep: Callable[[], object], failures: type[BaseException]) -> Iterator[threading.Thread]:
    """Call `keep` if the block, which saves the same, raises one of `failures`, or takes longer than `longest_save`.

    If it takes longer, that is on the thread that this yields, beside the block; it has an `ident` once it has begun.
    """
    beside = threading.Thread(target=keep, daemon=True)
    try:
        with deadlines.within(longest_save.total_seconds(), beside.start):
            yield beside
    except failures:
        keep()
        raise
