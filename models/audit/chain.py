"""The chain: each line's hash covers the line and the hash of the line before it, so none changes without a trace."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from typing import Final

genesis: Final = "0" * 64
"""What comes before the first line of all."""

kept: Final = timedelta(days=400)
"""For how long lines are kept. The records of closed days stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A stored line. A line that is not chained yet has no `day`, `number`, `previous` and `hash`.

    day: the day, in UTC, in which it was chained.
    number: its number within the day, from 1.
    previous: the hash of the line before it; for a day's first line, of the last line of the day before.
    """

    id: int
    at: datetime
    actor: str
    action: str
    provider: str | None
    user_id: str | None
    connection_id: str | None
    authorization_id: str | None
    address: str | None
    detail: Mapping[str, object]
    day: date | None = None
    number: int | None = None
    previous: str | None = None
    hash: str | None = None


@dataclass(frozen=True, slots=True)
class Day:
    """A closed day: how many lines it has, and the hash of the last one, its head."""

    day: date
    count: int
    head: str


@dataclass(frozen=True, slots=True)
class End:
    """The chain's newest line: its day, its number within the day, and its hash. `day` is None before the first."""

    day: date | None = None
    number: int = 0
    hash: str = genesis


def as_json(line: Line) -> dict[str, object]:
    """Return a line's fields with its times as texts."""
    values: dict[str, object] = {each.name: getattr(line, each.name) for each in fields(Line)}
    values["at"] = line.at.astimezone(UTC).isoformat(timespec="microseconds")
    values["day"] = None if line.day is None else line.day.isoformat()
    values["detail"] = dict(line.detail)
    return values


def canonical(line: Line) -> str:
    """Return what is hashed: the line as JSON without `hash`, keys sorted, no spaces, nothing but ASCII."""
    values = as_json(line)
    del values["hash"]
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def hash_of(line: Line) -> str:
    """Return the SHA-256 of the canonical form, in hex."""
    return hashlib.sha256(canonical(line).encode()).hexdigest()


def extend(end: End, lines: Sequence[Line], today: date, closed: Day | None = None) -> Iterator[Line]:
    """Yield the lines with their places in the chain: in today's part, or a later day's if clocks went back.

    That is the newest line's day, or the day after the newest one that was closed.
    """
    first = today if closed is None else max(today, closed.day + timedelta(days=1))
    for line in lines:
        day = first if end.day is None else max(first, end.day)
        number = end.number + 1 if day == end.day else 1
        placed = replace(line, day=day, number=number, previous=end.hash)
        hashed = replace(placed, hash=hash_of(placed))
        yield hashed
        end = End(day, number, hashed.hash or "")


def close(end: End, closed: Day | None, today: date) -> Day | None:
    """Return the day to close: the newest line's, if it is over and not `closed`, the newest closed day, already."""
    if end.day is None or end.day >= today or (closed is not None and closed.day >= end.day):
        return None
    return Day(end.day, end.number, end.hash)
