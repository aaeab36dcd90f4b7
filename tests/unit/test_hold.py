"""Which refusals end a connection at once, which wait, and when all of a client's are held."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from models.oauth.hold import (
    EndNow,
    HoldBack,
    Judgement,
    Limits,
    Refusal,
    Situation,
    WaitUntil,
    begin_trial,
    is_counted,
    judge,
    open_hold,
)

now = datetime(2026, 11, 24, 12, tzinfo=UTC)
minute = timedelta(minutes=1)
limits = Limits(count=10, share=0.05, window=60 * minute)
calm = Situation(is_held=False, refused=0, active=1000, earlier=None, limits=limits, wait=15 * minute)
earlier = Refusal("c1", "p", "client", 1, "refresh_rejected", "refresh", {}, now - 15 * minute, due_at=now)
later = WaitUntil(now + 15 * minute)

cases: dict[str, tuple[Situation, bool, Judgement]] = {
    "the first of the hour": (calm, False, EndNow()),
    "the tenth of the hour": (replace(calm, refused=9), False, EndNow()),
    "the eleventh of the hour": (replace(calm, refused=10), False, later),
    "as many as people may revoke": (replace(calm, refused=49), False, later),
    "more than people revoke": (replace(calm, refused=50), False, HoldBack(opens=True)),
    "more than people revoke, unreadable": (replace(calm, refused=50), True, HoldBack(opens=True)),
    "all of a few": (replace(calm, refused=9, active=1), False, EndNow()),
    "a large share, and more than a few": (replace(calm, refused=10, active=20), False, HoldBack(opens=True)),
    "unreadable": (calm, True, later),
    "held already": (replace(calm, is_held=True), False, HoldBack(opens=False)),
    "held already, its time over": (replace(calm, is_held=True, earlier=earlier), False, HoldBack(opens=False)),
    "again, its time over": (replace(calm, refused=20, earlier=earlier), False, EndNow()),
    "again, unreadable, its time over": (replace(calm, earlier=earlier), True, EndNow()),
    "again, too early": (
        replace(calm, earlier=replace(earlier, due_at=now + minute)),
        False,
        WaitUntil(now + minute),
    ),
    "again, its time over, and more than people revoke": (
        replace(calm, refused=50, earlier=earlier),
        False,
        HoldBack(opens=True),
    ),
    "released, and refused again": (
        replace(calm, earlier=replace(earlier, due_at=None, is_released=True)),
        False,
        EndNow(),
    ),
}


@pytest.mark.parametrize("case", cases)
def test_a_refusal_is_judged_by_how_many_others_there_were(case: str) -> None:
    situation, is_unreadable, expected = cases[case]
    assert judge(situation, is_unreadable, now) == expected


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("access_revoked", True), ("refresh_rejected", True), ("refresh_expired", False), ("rotation_lost", False)],
)
def test_only_what_would_be_blamed_on_a_user_counts(reason: str, expected: bool) -> None:
    assert is_counted(reason) is expected  # type: ignore[arg-type]


def test_one_held_connection_is_tried_at_growing_intervals() -> None:
    hold = open_hold("p", "client", by_operator=False, now=now)
    times = []
    for seconds in range(0, 7200, 30):
        begun = begin_trial(hold, now + timedelta(seconds=seconds))
        if begun is not None:
            times.append(seconds // 60)
            hold = begun
    assert times == [1, 3, 8, 18, 33, 48, 63, 78, 93, 108]
