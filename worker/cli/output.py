"""A command's output: text for people or JSON for programs, errors as one line on stderr, and the exit code."""

import functools
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Annotated, Any, ParamSpec

import redis
import structlog
import typer
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table

from config.environment import SettingsError
from models.crypto.redact import show_controls
from models.errors import SyncError

P = ParamSpec("P")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

failed, wrong_usage, not_found, interrupted = 1, 2, 3, 130


class CommandFailed(Exception):
    """A command that failed; the message is for the operator and names what to do."""

    exit_code = failed


class WrongUsage(CommandFailed):
    """Options that exclude each other, or values that are not allowed."""

    exit_code = wrong_usage


class NotFound(CommandFailed):
    """An id or a name that does not exist."""

    exit_code = not_found


def report_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Report a command's expected errors as a line on stderr and an exit code, without a traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except CommandFailed as error:
            print_error(str(error))
            raise typer.Exit(error.exit_code) from None
        except SettingsError as error:
            print_error(str(error))
            raise typer.Exit(failed) from None
        except redis.RedisError as error:
            print_error(f"Redis does not answer ({type(error).__name__}). Start it, or set REDIS_URL.")
            raise typer.Exit(failed) from None
        except SyncError as error:
            print_error(f"{error}.")
            raise typer.Exit(failed) from None

    return run


@contextmanager
def without_logs() -> Iterator[None]:
    """Write no log while the block runs: a command reports itself, and its output may be JSON."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


def print_error(text: str) -> None:
    """Print one error or warning on stderr."""
    print(show_controls(text), file=sys.stderr)  # noqa: T201 - for the operator


def print_line(text: str) -> None:
    """Print one line on stdout, neither wrapped nor coloured."""
    print(show_controls(text), flush=True)  # noqa: T201 - the command's output


def print_json(value: object, *, indent: int | None = 2) -> None:
    """Print one JSON document, with times in ISO 8601 and dataclasses as objects; `indent=None` puts it on one line."""
    text = json.dumps(value, default=_to_json, indent=indent, ensure_ascii=False)
    print_line("".join(f"\\u{ord(each):04x}" if show_controls(each) != each else each for each in text))


def print_rich(*parts: Any) -> None:
    """Print text for people: coloured on a terminal, plain in a pipe."""
    screen().print(*parts)


def screen() -> Console:
    """Return a console on stdout; in a pipe it is wide enough that no line is cut."""
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 2000)
    console.push_render_hook(_WithoutControls())
    return console


class _WithoutControls(RenderHook):
    """Has everything that a console prints shown without what a terminal would obey, styles excepted."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Shown(renderable) for renderable in renderables]


@dataclass(frozen=True, slots=True)
class _Shown:
    inner: ConsoleRenderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for text, style, control in console.render(self.inner, options):
            yield Segment(text if control else show_controls(text), style, control)


def make_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Return a table without borders; None becomes an empty cell, a time is shown to the second in UTC.

    The first column is never cut, however narrow the terminal: it has the id for the next command.
    """
    texts = [[to_text(value) for value in row] for row in rows]
    table = Table(*head, box=None, pad_edge=False, header_style="bold", show_header=bool(head))
    for texts_of_row in texts:
        table.add_row(*map(escape, texts_of_row))
    if table.columns:
        table.columns[0].no_wrap = True
        table.columns[0].min_width = max(len(row[0]) for row in texts) if texts else None
    return table


def to_text(value: object) -> str:
    """Return a cell's text."""
    match value:
        case None:
            return ""
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        case Enum():
            return str(value.value)
        case _:
            return str(value)


def format_future(at: datetime, now: datetime) -> str:
    """Return "at" a time and how long it is until then; "now" if it has passed."""
    if at <= now:
        return "now"
    return f"at {at:%Y-%m-%d %H:%M:%S} UTC, in {format_length(at - now)}"


def format_past(at: datetime, now: datetime) -> str:
    """Return "at" a time and how many seconds ago that was."""
    seconds = max((now - at).total_seconds(), 0)
    return f"at {at:%Y-%m-%d %H:%M:%S} UTC, {seconds:.0f} s ago"


def format_length(length: timedelta) -> str:
    """Return a length of time in the largest unit of which it has at least two."""
    seconds = length.total_seconds()
    for unit, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} seconds"


def _to_json(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case Enum():
            return value.value
        case Mapping():
            return dict(value)
        case set() | frozenset() | tuple():
            return list(value)
        case _ if is_dataclass(value) and not isinstance(value, type):
            return asdict(value)
        case _:
            raise TypeError(f"{type(value).__name__} cannot be written as JSON")
