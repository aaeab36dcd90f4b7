"""A command's output: text for people or JSON for programs, errors as one line on stderr, and the exit code."""

import errno
import functools
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
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
from worker.operations.texts import to_json, to_text

P = ParamSpec("P")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

failed, wrong_usage, not_found, interrupted = 1, 2, 3, 130
unwritable = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""The errors of a file, a device or a terminal that takes no more."""

_reports_json: ContextVar[bool] = ContextVar("reports_json", default=False)


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
    """Report a command's expected errors as a line on stderr and an exit code, without a traceback; and nothing else:
    what the command uses would log to its output."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with _without_logs():
                command(*args, **kwargs)
        except CommandFailed as error:
            print_error(str(error), error.exit_code)
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
def report_unwritable_output() -> Iterator[None]:
    """Report standard output that can't be written, like a file on a full disk, in a line on stderr, and exit with 1.

    A pipe that its reader has closed is left to the caller, who ends without a word.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in unwritable or error.filename is not None:
            raise
        # The same disk may be behind stderr.
        with suppress(OSError):
            print_error(f"Standard output can't be written: {error.strerror}. What the command did up to then is done.")
        # Python would try to write what is left when it exits, and report that once more.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(failed) from None


@contextmanager
def _without_logs() -> Iterator[None]:
    """Write no log while the block runs: a command reports itself, and its output may be JSON."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


@contextmanager
def reporting_in(as_json: bool) -> Iterator[None]:
    """Print errors and warnings as JSON while the block runs, or as text."""
    token = _reports_json.set(as_json)
    try:
        yield
    finally:
        _reports_json.reset(token)


def reports_json() -> bool:
    """Return whether the command line asked for JSON."""
    return _reports_json.get()


def print_error(text: str, exit_code: int = failed) -> None:
    """Print an error on stderr; with `--json` it is one JSON object, whose `exit_code` is how the process ends."""
    _print_report(text, {"error": text, "exit_code": exit_code})


def print_warning(text: str) -> None:
    """Print on stderr what an operator should know of a command that goes on."""
    _print_report(text, {"warning": text})


def print_log(text: str) -> None:
    """Print a line of a process' log on stderr, as it is."""
    print(show_controls(text), file=sys.stderr)  # noqa: T201 - for the operator


def print_line(text: str) -> None:
    """Print one line on stdout, neither wrapped nor coloured."""
    print(show_controls(text), flush=True)  # noqa: T201 - the command's output


def print_json(value: object, *, indent: int | None = 2) -> None:
    """Print one JSON document, with times in ISO 8601 and dataclasses as objects; `indent=None` puts it on one line."""
    print_line(_write_json(value, indent))


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


def _print_report(text: str, value: Mapping[str, object]) -> None:
    print(_write_json(value, None) if reports_json() else show_controls(text), file=sys.stderr)  # noqa: T201


def _write_json(value: object, indent: int | None) -> str:
    """Return a document in which every character that a terminal would obey is escaped."""
    text = json.dumps(value, default=to_json, indent=indent, ensure_ascii=False)
    return "".join(f"\\u{ord(each):04x}" if show_controls(each) != each else each for each in text)
