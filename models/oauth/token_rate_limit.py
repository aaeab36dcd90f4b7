"""How fast a token endpoint may be asked: never more requests in any minute, wherever it begins, than it allows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

Purpose = Literal["exchange", "refresh", "resolve", "probe"]
window = 62
"""How many seconds a request counts for, its own and the present one included: a minute, the rest of the second in
which it left, and one more for what the way to the server and the clocks of the fleet add or take."""
share_for_refreshes = 0.9


@dataclass(frozen=True, slots=True)
class Pace:
    """How many requests left in each second, by its Unix time; `paused_until` follows a 429."""

    counts: Mapping[int, int] = field(default_factory=dict)
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

    `Paces.take` does the same in one statement, so that no one waits for the row longer than that takes.
    """
    if pace.paused_until is not None and pace.paused_until > now:
        return WaitUntil(pace.paused_until)
    second, allowed = second_of(now), count_allowed(per_minute, purpose)
    counts = _counts_in_window(pace, now)
    taken = sum(counts.values())
    if allowed is None or taken < allowed:
        return Go(Pace({**counts, second: counts.get(second, 0) + 1}))
    for oldest in sorted(counts):
        taken -= counts[oldest]
        if taken < allowed:
            break
    return WaitUntil(datetime.fromtimestamp(oldest + window, UTC))


def count_free(pace: Pace, per_minute: int, purpose: Purpose, now: datetime, most: int) -> int:
    """How many requests of this purpose could leave now, `most` at the most."""
    if pace.paused_until is not None and pace.paused_until > now:
        return 0
    allowed = count_allowed(per_minute, purpose)
    if allowed is None:
        return most
    return min(max(allowed - sum(_counts_in_window(pace, now).values()), 0), most)


def count_taken(pace: Pace, now: datetime) -> int:
    """Return how many requests of the last minute count."""
    return sum(_counts_in_window(pace, now).values())


def count_allowed(per_minute: int, purpose: Purpose) -> int | None:
    """How many requests a window may hold for one of this purpose to leave; None for no limit.

    Refreshes leave a tenth of the budget to exchanges, where a user waits, and to what resolves an unknown outcome,
    where a grace may run out.
    """
    if per_minute <= 0:
        return None
    return max(int(per_minute * share_for_refreshes), 1) if purpose == "refresh" else per_minute


def second_of(now: datetime) -> int:
    """The second under which a request that leaves now is counted."""
    return int(now.timestamp())


def _counts_in_window(pace: Pace, now: datetime) -> dict[int, int]:
    """The seconds that still count, with those of clocks that are ahead."""
    return {second: count for second, count in pace.counts.items() if second > second_of(now) - window}
