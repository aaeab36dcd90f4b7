"""How an operator reads values: times, lengths of time, a cell of a table, and all of it as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum


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


def to_json(value: object) -> object:
    """Return a value that JSON can hold, for one that it can't; for `json.dumps`."""
    match value:
        case date():
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
