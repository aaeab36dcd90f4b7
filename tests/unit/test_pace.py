"""The token endpoint's budget: never over the limit in any minute, exchanges before refreshes."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from models.oauth.token_rate_limit import Go, Pace, WaitUntil, count_free, step

start = datetime(2026, 11, 24, 12, tzinfo=UTC)


def run(gaps: list[float], per_minute: int, purpose: str = "refresh") -> list[datetime]:
    """Asks after each gap, waits where it has to, and returns when the requests left."""
    pace, now, left = Pace(), start, []
    for gap in gaps:
        now += timedelta(seconds=gap)
        stepped = step(pace, per_minute, purpose, now)  # type: ignore[arg-type]
        while isinstance(stepped, WaitUntil):
            now = stepped.at
            stepped = step(pace, per_minute, purpose, now)  # type: ignore[arg-type]
        pace = stepped.pace
        left.append(now)
    return left


@given(st.lists(st.floats(0, 40), max_size=80), st.integers(1, 20))
def test_no_minute_wherever_it_begins_holds_more_than_the_limit(gaps: list[float], per_minute: int) -> None:
    left = run(gaps, per_minute, "exchange")
    for first in left:
        assert sum(first <= at < first + timedelta(minutes=1) for at in left) <= per_minute


def test_a_thousand_at_once_take_as_long_as_the_limit_says_and_no_longer() -> None:
    left = run([0.0] * 1000, 60)
    assert timedelta(minutes=18) < left[-1] - left[0] < timedelta(minutes=20)


def test_a_request_counts_for_a_minute_after_the_end_of_its_second() -> None:
    late = start + timedelta(seconds=0.9)
    stepped = step(Pace(), 1, "exchange", late)
    assert isinstance(stepped, Go)
    assert step(stepped.pace, 1, "exchange", start + timedelta(seconds=61.9)) == WaitUntil(
        start + timedelta(seconds=62)
    )
    assert isinstance(step(stepped.pace, 1, "exchange", start + timedelta(seconds=62)), Go)


def test_what_no_longer_counts_is_forgotten() -> None:
    pace = Pace({int(start.timestamp()) - age: 1 for age in range(200)})
    stepped = step(pace, 0, "refresh", start)
    assert isinstance(stepped, Go)
    assert len(stepped.pace.counts) == 62


@given(st.dictionaries(st.integers(-70, 3), st.integers(1, 9)), st.integers(0, 30))
def test_as_many_are_free_as_can_be_taken(ages: dict[int, int], per_minute: int) -> None:
    pace = Pace({int(start.timestamp()) + age: count for age, count in ages.items()})
    free, stepped = 0, step(pace, per_minute, "refresh", start)
    while isinstance(stepped, Go) and free < 40:
        free, stepped = free + 1, step(stepped.pace, per_minute, "refresh", start)
    assert count_free(pace, per_minute, "refresh", start, 40) == free


def test_refreshes_leave_room_for_exchanges() -> None:
    pace = Pace()
    while isinstance(stepped := step(pace, 60, "refresh", start), Go):
        pace = stepped.pace
    assert count_free(pace, 60, "refresh", start, 100) == 0
    assert count_free(pace, 60, "exchange", start, 100) == 6


def test_a_429_stops_everybody_until_its_time() -> None:
    until = start + timedelta(seconds=30)
    assert step(Pace({}, until), 60, "exchange", start) == WaitUntil(until)
    assert isinstance(step(Pace({}, until), 60, "exchange", until), Go)


def test_no_limit_means_no_waiting() -> None:
    assert count_free(Pace(), 0, "refresh", start, 1000) == 1000
