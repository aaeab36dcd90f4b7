"""How many requests an account may make: never more in any minute than its provider allows, from all workers."""

from dataclasses import dataclass, replace

window = 61
"""How many seconds a request counts: a minute, and all of the second in which its answer came."""


@dataclass(frozen=True, slots=True)
class Budget:
    """An account's requests, in seconds of the clock that all workers share.

    spent: our requests by second, oldest first.
    left: how many the provider last said are left, less those that we counted since.
    left_until: when that is certainly out of date.
    paused_until: when the account may be used again after a 429.
    """

    spent: tuple[tuple[int, int], ...] = ()
    left: int | None = None
    left_until: float = 0
    paused_until: float = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """One request may be sent; it is counted under this second until its answer comes."""

    budget: Budget
    second: int


@dataclass(frozen=True, slots=True)
class Wait:
    """There is no room for so many seconds."""

    seconds: float


def take(budget: Budget, per_minute: int, now: float) -> Taken | Wait:
    """Count one request if there is room; a sixtieth of the limit stays free for what cannot wait (see `count`)."""
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
    """Count a request that is sent whether there is room or not."""
    left = None if budget.left is None or budget.left_until <= now else budget.left - 1
    return replace(budget, spent=_add(_recent(budget, now), int(now), 1), left=left)


def settle(budget: Budget, second: int, remaining: int | None, now: float) -> Budget:
    """Note an answer: only now is it certain that the request reached the provider, so its minute starts here.

    `remaining` is the provider's own count. If it is lower than ours it is used: it includes other apps of the same
    user, and what a restarted Redis forgot. A higher one may not include our requests that are on their way.
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
    """Allow no request for so long, after a 429; a longer pause stays."""
    return replace(budget, paused_until=max(budget.paused_until, now + seconds))


def _recent(budget: Budget, now: float) -> tuple[tuple[int, int], ...]:
    return tuple((second, number) for second, number in budget.spent if second + window > now)


def _add(spent: tuple[tuple[int, int], ...], second: int, number: int) -> tuple[tuple[int, int], ...]:
    counts = dict(spent)
    counts[second] = counts.get(second, 0) + number
    return tuple(sorted((at, many) for at, many in counts.items() if many > 0))


def _second_of_room(spent: tuple[tuple[int, int], ...], room: int) -> int:
    """Return the second whose requests must no longer count before there is room for one more."""
    counted = sum(number for _, number in spent)
    for second, number in spent:
        counted -= number
        if counted < room:
            return second
    return spent[-1][0]
