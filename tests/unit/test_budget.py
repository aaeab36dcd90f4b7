"""An account's budget: never over the limit in any minute, nearly all of it used, and the provider believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rate_limit import Budget, Taken, Wait, count, pause, settle, take

start = 1_800_000_000.25


def most_in_a_minute(times: list[float]) -> int:
    """The most that arrived in any window of 60 seconds, wherever it begins."""
    ordered = sorted(times)
    return max((sum(at <= other < at + 60 for other in ordered) for at in ordered), default=0)


def spent(number: int, second: int = int(start)) -> Budget:
    return Budget(spent=((second, number),))


def after(budget: Budget, per_minute: int = 60, now: float = start) -> Taken | float:
    """What a request gets: room, or the seconds to wait."""
    taken = take(budget, per_minute, now)
    return taken.seconds if isinstance(taken, Wait) else taken


cases: dict[str, tuple[Budget, float | None]] = {
    "nothing known": (Budget(), None),
    "room for one": (spent(58), None),
    "a sixtieth is left to those who can't wait": (spent(59), 60.75),
    "overdrawn by those": (spent(70), 60.75),
    "what was spent a minute and a second ago is forgotten": (spent(60, int(start) - 61), None),
    "and not a second before": (spent(60, int(start) - 60), 0.75),
    "room comes by and by": (Budget(spent=((int(start) - 50, 1), (int(start) - 20, 58))), 10.75),
    "others have used it up": (Budget(left=0, left_until=start + 20), 20.0),
    "others have used some": (Budget(left=1, left_until=start + 20), None),
    "what was said of an old window": (Budget(left=0, left_until=start - 1), None),
    "paused": (Budget(paused_until=start + 300), 300.0),
    "paused long ago": (Budget(paused_until=start - 1), None),
}


@pytest.mark.parametrize("case", cases)
def test_a_request_leaves_where_there_is_room_and_is_told_when_there_will_be(case: str) -> None:
    budget, wait = cases[case]
    taken = after(budget)
    assert taken == wait if wait is not None else isinstance(taken, Taken)


def test_the_provider_is_believed_where_it_says_that_less_remains() -> None:
    budget = settle(count(Budget(), start), int(start), 5, start + 1)
    left = 0
    while isinstance(taken := take(budget, 60, start + 2), Taken):
        budget, left = taken.budget, left + 1
    assert left == 5
    assert taken.seconds == 60, "until that window is surely over"


def test_the_provider_is_not_believed_where_it_says_that_more_remains() -> None:
    budget = settle(spent(59), int(start), 40, start + 1)
    assert isinstance(take(budget, 60, start + 2), Wait)


def test_after_a_loss_of_everything_one_answer_teaches_it_again() -> None:
    budget = settle(Budget(), int(start), 0, start)
    assert after(budget, now=start + 1) == 60


def test_a_minute_begins_when_the_answer_is_there() -> None:
    taken = take(Budget(), 1, start)
    assert isinstance(taken, Taken)
    answered = settle(taken.budget, taken.second, None, start + 25)
    assert answered.spent == ((int(start + 25), 1),)


def test_a_pause_is_never_shortened() -> None:
    assert pause(pause(Budget(), 60, start), 5, start).paused_until == start + 60


def test_a_tiny_limit_still_lets_one_through() -> None:
    assert isinstance(take(Budget(), 1, start), Taken)


def read(per_minute: int, latencies: list[float], delay: float, minutes: int) -> list[float]:
    """One account read alone, request after request; whoever has to wait is back `delay` seconds too late.

    Returns when each request reached the provider, anywhere between leaving and being answered.
    """
    budget, now, arrived, number = Budget(), start, [], 0
    while now < start + 60 * minutes:
        taken = take(budget, per_minute, now)
        if isinstance(taken, Wait):
            now += taken.seconds + delay
            continue
        latency = latencies[number % len(latencies)]
        number += 1
        arrived.append(now + latency * (number % 3) / 2)
        now += latency
        budget = settle(taken.budget, taken.second, None, now)
    return arrived


@given(st.integers(1, 90), st.lists(st.floats(0.001, 30), min_size=1, max_size=6), st.floats(0, 5), st.integers(1, 6))
def test_never_more_than_the_limit_in_any_minute_however_slow_the_way(
    per_minute: int, latencies: list[float], delay: float, minutes: int
) -> None:
    assert most_in_a_minute(read(per_minute, latencies, delay, minutes)) <= per_minute


def test_nine_tenths_of_the_limit_are_used_by_one_account_that_is_read_alone() -> None:
    arrived = read(60, [0.2], delay=1.2, minutes=30)
    assert len(arrived) / 30 >= 0.9 * 60
