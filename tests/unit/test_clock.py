"""The fleet's time: what is made of a measurement, and when a machine's clock is no longer believed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from models.clock import Anchor, Reading, advance, choose, has_stepped, measure, offset

noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
hour = timedelta(hours=1)
second = timedelta(seconds=1)


def at(wall: timedelta, steady: timedelta) -> Reading:
    return Reading(noon + wall, steady)


anchor = Anchor(noon, at(70 * second, 5 * hour), 0.01 * second)
"""A machine that is 70 s ahead."""


def test_an_answer_counts_for_the_middle_of_the_time_it_took() -> None:
    measured = measure(at(70 * second, hour), noon, at(72 * second, hour + 2 * second))
    assert measured == Anchor(noon, at(71 * second, hour + second), second)
    assert offset(measured) == 71 * second


@pytest.mark.parametrize("passed", [timedelta(), second, 24 * hour])
def test_time_goes_on_by_the_clock_that_no_one_sets(passed: timedelta) -> None:
    assert advance(anchor, at(-hour, 5 * hour + passed)) == noon + passed


steps: dict[str, tuple[Reading, bool]] = {
    "nothing passed": (anchor.reading, False),
    "both went on": (at(70 * second + hour, 6 * hour), False),
    "drift": (at(70 * second + hour + second, 6 * hour), False),
    "set forward": (at(73 * second, 5 * hour + second), True),
    "set back by an hour": (at(70 * second - hour, 5 * hour + second), True),
    "set forward by a day": (at(70 * second + 24 * hour, 5 * hour), True),
    "the machine stood still, and NTP has set its clock since": (at(70 * second + hour, 5 * hour + second), True),
    "started again": (at(70 * second, second), True),
}


@pytest.mark.parametrize("case", steps)
def test_a_clock_that_was_set_is_noticed(case: str) -> None:
    reading, expected = steps[case]
    assert has_stepped(anchor, reading) is expected


def test_a_measurement_within_its_precision_moves_no_time() -> None:
    reading = at(80 * second, 5 * hour + 10 * second)
    agreeing = Anchor(noon + 10.3 * second, reading, 0.5 * second)
    chosen = choose(anchor, agreeing)
    assert advance(chosen, reading) == noon + 10 * second
    assert chosen.reading == reading


@pytest.mark.parametrize(
    ("before", "after", "believed"),
    [
        (2.0, 0.01, True),
        (2.0, 0.9, True),
        (2.0, 1.0, False),
        (0.11, 0.05, True),
        (0.1, 0.001, False),
        (0.01, 2.0, False),
    ],
)
def test_a_rough_measurement_goes_for_a_better_one(before: float, after: float, believed: bool) -> None:
    reading = at(80 * second, 5 * hour + 10 * second)
    current = replace(anchor, precision=before * second)
    measured = Anchor(noon + 10 * second + 0.001 * second, reading, after * second)
    assert (choose(current, measured) == measured) is believed


@pytest.mark.parametrize("wrong", [-hour, -second, second, 24 * hour])
def test_a_measurement_that_differs_is_believed(wrong: timedelta) -> None:
    measured = Anchor(noon + 10 * second + wrong, at(80 * second, 5 * hour + 10 * second), 0.01 * second)
    assert choose(anchor, measured) == measured
    assert choose(None, measured) == measured


def test_after_a_step_the_old_measurement_counts_for_nothing() -> None:
    measured = Anchor(noon + 10 * second, at(-hour, 5 * hour + 10 * second), hour)
    assert choose(anchor, measured) == measured
