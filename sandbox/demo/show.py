"""Show the demo's progress: one line per step, with a spinner or a tick, its duration, and what was seen."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

SIGNS: dict[str, tuple[str, str]] = {"waiting": ("·", "dim"), "seen": ("✓", "bold green"), "missed": ("✗", "bold red")}


@dataclass(slots=True)
class Line:
    """One step and its state; `seconds` is how long it took."""

    title: str
    state: Literal["waiting", "playing", "seen", "missed"] = "waiting"
    seen: str = ""
    began_at: float = 0.0
    seconds: float = 0.0


@dataclass
class Show:
    """Updates lines on a terminal; elsewhere prints a plain line as each step ends."""

    console: Console
    lines: list[Line] = field(default_factory=list)
    _spinner: Spinner = field(default_factory=lambda: Spinner("dots", style="cyan"))

    def expect(self, *titles: str) -> None:
        """Add steps that will follow."""
        self.lines += [Line(title) for title in titles]

    @contextmanager
    def live(self) -> Iterator[None]:
        """Redraw the lines for the duration of the block."""
        if not self.console.is_terminal:
            yield
            return
        with Live(get_renderable=self.draw, console=self.console, refresh_per_second=12):
            yield

    def begin(self) -> None:
        """Start the first step that is waiting."""
        line = next(line for line in self.lines if line.state == "waiting")
        line.state, line.began_at = "playing", time.monotonic()

    def see(self, what: str) -> None:
        self._end("seen", what)

    def miss(self, what: str) -> None:
        self._end("missed", what)

    def draw(self) -> RenderableType:
        """Return the current lines."""
        table = Table.grid(padding=(0, 1))
        table.add_column(width=1)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True, style="cyan")
        table.add_column(overflow="fold")
        for line in self.lines:
            table.add_row(*self._draw_line(line))
        return Group(Text("One user's life with breezesync", style="bold"), "", table)

    def _draw_line(self, line: Line) -> tuple[RenderableType, ...]:
        if line.state == "playing":
            return self._spinner, line.title, f"{time.monotonic() - line.began_at:4.1f} s", ""
        sign, style = SIGNS[line.state]
        took = f"{line.seconds:4.1f} s" if line.state != "waiting" else ""
        title = Text(line.title, style="dim" if line.state == "waiting" else "")
        return Text(sign, style=style), title, took, Text(line.seen, style="red" if line.state == "missed" else "dim")

    def _end(self, state: Literal["seen", "missed"], what: str) -> None:
        line = next(line for line in self.lines if line.state == "playing")
        line.state, line.seen, line.seconds = state, what, time.monotonic() - line.began_at
        if not self.console.is_terminal:
            word = {"seen": "ok    ", "missed": "FAILED"}[state]
            self.console.print(f"{word} {line.seconds:5.1f} s  {line.title}: {what}", soft_wrap=True, markup=False)


@dataclass(frozen=True, slots=True)
class Figures:
    """The numbers at the end of the demo."""

    events: dict[str, int]
    most_presentations: int
    most_requests: int
    allowed_requests: int
    seconds: float

    def are_within_limits(self) -> bool:
        """Return whether the numbers are within their limits."""
        return self.most_presentations <= 1 and self.most_requests <= self.allowed_requests


def draw_figures(figures: Figures) -> RenderableType:
    """Return the table of numbers."""
    events = [f"{count} {type_}" for type_, count in sorted(figures.events.items())]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("Events received", ", ".join(events))
    table.add_row("Presentations of one refresh token", f"{figures.most_presentations} at most")
    table.add_row("API requests in one minute", f"{figures.most_requests} at most, {figures.allowed_requests} allowed")
    table.add_row("Time", f"{figures.seconds:.1f} s")
    return Group("", table)
