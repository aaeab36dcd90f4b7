"""When refreshes fall due: long and short lives, and how tokens issued together part ways."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.oauth.refresh_policy import accepts_request, asked_for, refresh_due_at, retry_at, spread

issued_at = datetime(2026, 1, 1, tzinfo=UTC)

lives = {
    # life: due at the earliest and at the latest, counted from the end of the life
    "a year": (timedelta(days=365), timedelta(days=42), timedelta(days=28)),
    "a hundred years": (timedelta(days=36_500), timedelta(days=42), timedelta(days=28)),
    "a month": (timedelta(days=30), timedelta(days=9), timedelta(days=6)),
    "an hour": (timedelta(hours=1), timedelta(minutes=18), timedelta(minutes=12)),
    "a minute": (timedelta(minutes=1), timedelta(seconds=18), timedelta(seconds=12)),
    "five seconds": (timedelta(seconds=5), timedelta(seconds=1.5), timedelta(seconds=1)),
    "less than five": (timedelta(seconds=4.9), timedelta(seconds=-55.1), timedelta(seconds=-55.1)),
    "a second": (timedelta(seconds=1), timedelta(seconds=-59), timedelta(seconds=-59)),
    "no time at all": (timedelta(), timedelta(seconds=-60), timedelta(seconds=-60)),
}


@pytest.mark.parametrize("life", lives)
def test_a_refresh_is_due_a_share_of_the_life_ahead_and_never_more_than_six_weeks(life: str) -> None:
    expires_in, earliest, latest = lives[life]
    due = [refresh_due_at(issued_at, expires_in, position) for position in (1.0, 0.0)]
    assert due == [issued_at + expires_in - earliest, issued_at + expires_in - latest]


def test_without_a_named_expiry_nothing_is_due() -> None:
    assert refresh_due_at(issued_at, None, 0.5) is None


@given(
    st.timedeltas(min_value=timedelta(seconds=5), max_value=timedelta(days=36_500)),
    st.floats(0, 1, exclude_max=True),
)
def test_a_refresh_is_always_due_after_the_issue_and_before_the_expiry(expires_in: timedelta, position: float) -> None:
    due = refresh_due_at(issued_at, expires_in, position)
    assert due is not None
    assert issued_at < due < issued_at + expires_in


def test_ten_thousand_tokens_issued_together_fall_due_evenly() -> None:
    tenths = Counter(int(spread(f"connection-{number}", 1) * 10) for number in range(10_000))
    assert sorted(tenths) == list(range(10))
    assert max(tenths.values()) - min(tenths.values()) < 200, tenths


def test_a_token_keeps_its_place_and_the_next_generation_has_another() -> None:
    assert spread("a", 1) == spread("a", 1)
    assert len({spread("a", 1), spread("a", 2), spread("b", 1)}) == 3


retries = {
    "first failure": (1, timedelta(days=9), timedelta(seconds=5)),
    "second failure": (2, timedelta(days=9), timedelta(seconds=30)),
    "sixth failure": (6, timedelta(days=9), timedelta(hours=1)),
    "hundredth failure": (100, timedelta(days=9), timedelta(hours=1)),
    "no failure counted yet": (0, timedelta(days=9), timedelta(seconds=5)),
    "the end is near": (6, timedelta(minutes=20), timedelta(minutes=5)),
    "the end is very near": (6, timedelta(seconds=8), timedelta(seconds=5)),
    "expired already": (6, timedelta(seconds=-1), timedelta(hours=1)),
    "no expiry known": (3, None, timedelta(minutes=2)),
}


@pytest.mark.parametrize("case", retries)
def test_failures_are_tried_again_ever_later_but_sooner_near_the_end(case: str) -> None:
    failures, left, delay = retries[case]
    assert retry_at(issued_at, failures, None if left is None else issued_at + left) == issued_at + delay


@pytest.mark.parametrize(
    ("retry_after", "expected"),
    [
        (None, None),
        (timedelta(0), None),
        (timedelta(seconds=1), timedelta(seconds=5)),
        (timedelta(minutes=2), timedelta(minutes=2)),
    ],
)
def test_no_time_at_all_is_no_time_to_come_back_after(
    retry_after: timedelta | None, expected: timedelta | None
) -> None:
    assert asked_for(retry_after) == expected


@pytest.mark.parametrize(
    ("last", "accepted"),
    [
        pytest.param(None, True, id="the first"),
        pytest.param(timedelta(0), False, id="the same moment"),
        pytest.param(timedelta(seconds=-59), False, id="within a minute"),
        pytest.param(timedelta(seconds=-60), True, id="a minute later"),
        pytest.param(timedelta(days=1), True, id="by a clock that was a day ahead"),
    ],
)
def test_a_connection_accepts_one_request_a_minute(last: timedelta | None, accepted: bool) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert accepts_request(None if last is None else now + last, now) is accepted
