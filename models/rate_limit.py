"""How often one account may be asked: never more requests in any minute than its provider allows, whoever asks."""

from dataclasses import dataclass, replace

window = 61
"""Seconds that a request counts: a minute, and the whole of the second in which it was answered."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What the fleet knows of one account's requests, in seconds of the clock that the fleet shares.

    `spent` counts ours by second, oldest first. `left` is what the provider last said to remain, less what we took
    since; it holds until `left_until`, when the window that it spoke of is surely over.
    """

    spent: tuple[tuple[int, int], ...] = ()
    left: int | None = None
    left_until: float = 0
    paused_until: float = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """One request may leave; it is counted under this second until its answer is there."""

    budget: Budget
    second: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now: there is no room for so many seconds."""

    seconds: float


def take(budget: Budget, per_minute: int, now: float) -> Taken | Wait:
    """Takes one request; a sixtieth of the limit is left to those who count and can't wait (see `count`)."""
    if budget.paused_until > now:
        return Wait(budget.paused_until - now)
    spent = _recent(budget, now)
    room = max(per_minute - per_minute // 60, 1)
    if sum(number for _, number in spent) >= room:
        return Wait(_second_of_room(spent, room) + window - now)
    if budget.left is not None and budget.left <= 0 and budget.left_until > now:
        return Wait(budget.left_until - now)
    return Taken(count(budget, now), int(now))


def count(budget: Budget, now: float) -> Budget:
    """Counts a request that leaves whether there is room or not."""
    left = None if budget.left is None or budget.left_until <= now else budget.left - 1
    return replace(budget, spent=_add(_recent(budget, now), int(now), 1), left=left)


def settle(budget: Budget, second: int, remaining: int | None, now: float) -> Budget:
    """An answer came: only now is it sure that its request has reached the provider, so the minute starts here.

    `remaining` is the provider's own count. It knows of other apps of the same user and of what a lost Redis forgot,
    so where it is lower than ours it is believed; a higher one may have crossed with requests of ours on their way.
    """
    spent = _recent(budget, now)
    if any(at == second for at, _ in spent):
        spent = _add(spent, second, -1)
    settled = replace(budget, spent=_add(spent, int(now), 1))
    if remaining is None:
        return settled
    if budget.left is None or budget.left_until <= now:
        return replace(settled, left=remaining, left_until=now + window)
    return replace(settled, left=min(budget.left, remaining))


def pause(budget: Budget, seconds: float, now: float) -> Budget:
    """A 429: nobody asks before then."""
    return replace(budget, paused_until=max(budget.paused_until, now + seconds))


def _recent(budget: Budget, now: float) -> tuple[tuple[int, int], ...]:
    return tuple((second, number) for second, number in budget.spent if second + window > now)


def _add(spent: tuple[tuple[int, int], ...], second: int, number: int) -> tuple[tuple[int, int], ...]:
    counts = dict(spent)
    counts[second] = counts.get(second, 0) + number
    return tuple(sorted((at, many) for at, many in counts.items() if many > 0))


def _second_of_room(spent: tuple[tuple[int, int], ...], room: int) -> int:
    """The second whose requests have to be forgotten before there is room for one more."""
    held = sum(number for _, number in spent)
    for second, number in spent:
        held -= number
        if held < room:
            return second
    return spent[-1][0]
