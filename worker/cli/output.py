"""How a command speaks and ends: text for people or JSON for programs, a plain line for trouble, an exit code."""

import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any, ParamSpec

import redis
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from config.settings import SettingsError
from models.errors import SyncError

P = ParamSpec("P")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

failed, wrong_usage, not_found, interrupted = 1, 2, 3, 130


class CommandFailed(Exception):
    """A command that can't do what it was asked; the text is for the operator, with the remedy."""

    exit_code = failed


class WrongUsage(CommandFailed):
    """Options that don't go together, or values that can't be meant."""

    exit_code = wrong_usage


class NotThere(CommandFailed):
    """What was named does not exist."""

    exit_code = not_found


def plainly(command: Callable[P, None]) -> Callable[P, None]:
    """The command, its foreseeable trouble told in a line on stderr and by the exit code."""

    @functools.wraps(command)
    def speak(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except CommandFailed as trouble:
            complain(str(trouble))
            raise typer.Exit(trouble.exit_code) from None
        except SettingsError as trouble:
            complain(str(trouble))
            raise typer.Exit(failed) from None
        except redis.RedisError as trouble:
            complain(f"Redis does not answer ({type(trouble).__name__}): start it, or set REDIS_URL.")
            raise typer.Exit(failed) from None
        except SyncError as trouble:
            complain(f"{trouble}.")
            raise typer.Exit(failed) from None

    return speak


def complain(text: str) -> None:
    """One trouble, on stderr."""
    print(text, file=sys.stderr)  # noqa: T201 - an operator reads this


def say(text: str) -> None:
    """One line that is not to be wrapped or coloured, on stdout."""
    print(text, flush=True)  # noqa: T201 - this is what was asked for


def say_json(value: object, *, indent: int | None = 2) -> None:
    """One JSON document: times in ISO 8601, values of ours as objects; with `indent=None` on one line."""
    say(json.dumps(value, default=_to_json, indent=indent, ensure_ascii=False))


def say_rich(*parts: Any) -> None:
    """Something for people: coloured on a terminal, plain in a pipe."""
    screen().print(*parts)


def screen() -> Console:
    """Standard output; in a pipe, wide enough that nothing is cut."""
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 2000)


def tabulate(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table without lines around it; None shows as nothing, a time to the second in UTC.

    The first column is never cut, however narrow the terminal: it holds what an operator types into the next command.
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
    match value:
        case None:
            return ""
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        case Enum():
            return str(value.value)
        case _:
            return str(value)


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
            raise TypeError(f"{type(value).__name__} has no place in JSON")
