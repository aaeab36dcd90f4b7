"""How fast a token endpoint may be asked: never more requests in any minute, wherever it begins, than it allows."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

Purpose = Literal["exchange", "refresh", "resolve", "probe"]
window = timedelta(seconds=61)
share_for_refreshes = 0.9


@dataclass(frozen=True, slots=True)
class Pace:
    """When the requests of the last window left, oldest first; `paused_until` follows a 429."""

    recent: tuple[datetime, ...] = ()
    paused_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Go:
    """The request may leave; the pace is now this."""

    pace: Pace


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Not before then."""

    at: datetime


def step(pace: Pace, per_minute: int, purpose: Purpose, now: datetime) -> Go | WaitUntil:
    """Takes one request from the budget; 0 a minute means no limit.

    A second more than a minute is looked at, for what the way to the server and the clocks of the fleet add or take.
    Refreshes leave a tenth of the budget to exchanges, where a user waits, and to what resolves an unknown outcome,
    where a grace may run out.
    """
    if pace.paused_until is not None and pace.paused_until > now:
        return WaitUntil(pace.paused_until)
    if per_minute <= 0:
        return Go(Pace())
    recent = tuple(at for at in pace.recent if at > now - window)
    allowed = max(int(per_minute * share_for_refreshes), 1) if purpose == "refresh" else per_minute
    if len(recent) < allowed:
        return Go(Pace(tuple(sorted((*recent, now)))))
    return WaitUntil(recent[-allowed] + window)


def count_free(pace: Pace, per_minute: int, purpose: Purpose, now: datetime, most: int) -> int:
    """How many requests of this purpose could leave now, `most` at the most."""
    free = 0
    while free < most:
        stepped = step(pace, per_minute, purpose, now)
        if isinstance(stepped, WaitUntil):
            break
        if not stepped.pace.recent:
            return most
        free, pace = free + 1, stepped.pace
    return free
