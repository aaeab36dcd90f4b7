"""Which days of history are made, and which are dropped."""

from datetime import UTC, date, datetime, timedelta

import pytest

from models.store.days import Day, choose_missing, choose_old, days_ahead, parents, start_of_day

noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
today = noon.date()


def ahead(days: int) -> date:
    return today + timedelta(days=days)


def test_today_and_the_coming_days_are_made_the_soonest_first() -> None:
    missing = choose_missing(set(), noon)
    assert missing[: len(parents)] == [Day(table, today) for table in parents]
    assert {day.date for day in missing} == {ahead(days) for days in range(days_ahead + 1)}
    assert choose_missing(missing, noon) == []


def test_after_a_day_only_the_last_one_is_made() -> None:
    missing = choose_missing(choose_missing(set(), noon), noon + timedelta(days=1))
    assert missing == [Day(table, ahead(days_ahead + 1)) for table in parents]


def test_after_a_pause_today_is_made_as_well() -> None:
    missing = choose_missing(choose_missing(set(), noon), noon + timedelta(days=30))
    assert (missing[0].date, missing[-1].date) == (ahead(30), ahead(30 + days_ahead))


@pytest.mark.parametrize(
    ("before", "dropped"),
    [
        (noon, [-2, -1]),
        (start_of_day(noon), [-2, -1]),
        (start_of_day(noon) - timedelta(microseconds=1), [-2]),
        (noon - timedelta(days=9), []),
    ],
)
def test_a_day_is_dropped_once_all_of_it_is_old(before: datetime, dropped: list[int]) -> None:
    existing = {Day("event", ahead(days)) for days in range(-2, 3)}
    assert [day.date for day in choose_old(existing, before)] == [ahead(days) for days in dropped]
