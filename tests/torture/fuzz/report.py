"""What was counted at one door, and the table of all of them."""

import gc
import io
import logging
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import structlog

from config.logs import configure_logging


@dataclass(slots=True)
class Figures:
    """What the inputs at one door did.

    server_errors: answers of 5xx, or exceptions that no caller expects.
    longest: seconds that one input took, or that a good one waited behind the others.
    growth: KiB of memory after the inputs and not before.
    examples: the first few inputs that did what none should.
    """

    door: str
    tried: int = 0
    server_errors: int = 0
    dead_threads: int = 0
    longest: float = 0.0
    growth: int = 0
    state_changes: int = 0
    leaks: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def faults(self) -> int:
        return self.server_errors + self.dead_threads + self.state_changes + self.leaks

    def note(self, what: str, given: object) -> None:
        if len(self.examples) < 5:
            self.examples.append(f"{self.door}: {what}: {given!r}"[:1000])

    def attempt(self, do: Callable[[], object], given: object) -> object:
        """Do it and return what came; an exception is a server error."""
        started = monotonic()
        try:
            return do()
        except Exception as error:
            self.server_errors += 1
            self.note(f"{type(error).__name__}: {error}", given)
            return None
        finally:
            self.tried += 1
            self.longest = max(self.longest, monotonic() - started)

    def check_leaks(self, secrets: Collection[str], seen: str, given: object = "") -> None:
        for secret in secrets:
            if secret in seen:
                self.leaks += 1
                self.note("leak", given or seen[max(seen.index(secret) - 100, 0) :][:300])

    def compare(self, before: object, after: object) -> None:
        if before != after:
            self.state_changes += 1
            self.note("state", (before, after))


@contextmanager
def counting(door: str) -> Iterator[tuple[Figures, io.StringIO]]:
    """Give the figures of a door to fill in, and what is logged meanwhile; the growth of memory is measured."""
    figures, stream, root = Figures(door), io.StringIO(), logging.getLogger()
    kept = root.handlers[:], root.level
    configure_logging(stream, readable=False)
    gc.collect()
    before = resident_kib()
    try:
        yield figures, stream
        gc.collect()
        grown = resident_kib() - before
        figures.growth = max(grown - sys.getsizeof(stream.getvalue()) // 1024, 0)  # the log is the test's own
    finally:
        root.handlers[:], root.level = kept
        structlog.reset_defaults()


def resident_kib() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4
    except OSError:
        return 0


def draw(all_figures: list[Figures]) -> str:
    """Return the table, and the examples below it."""
    head = ("door", "tried", "5xx", "dead threads", "longest wait", "memory", "state changes", "leaks")
    rows = [head, *(_row(each) for each in all_figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([*lines, *(example for each in all_figures for example in each.examples)])


def _row(each: Figures) -> tuple[str, ...]:
    counts: tuple[Any, ...] = (each.door, each.tried, each.server_errors, each.dead_threads)
    return (
        *map(str, counts),
        f"{each.longest * 1000:.0f} ms",
        f"{each.growth / 1024:+.1f} MiB",
        str(each.state_changes),
        str(each.leaks),
    )
