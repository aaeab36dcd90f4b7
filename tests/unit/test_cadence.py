"""How often a connection is read: often where it changes, seldom where it is quiet, a dead grant never hidden."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.oauth.connection import Connection, Status
from models.provider import Provider
from models.sync.cadence import choose_depth, plan_next
from models.sync.sync_run import Counts, Depth, RunStatus, SyncRun

now = datetime(2026, 11, 24, 12, tzinfo=UTC)
minute = timedelta(minutes=1)
interval = 16 * minute
provider = Provider(name="p", authorize_url="a", token_url="t", api_url="i")
connection = Connection("c", "ada", "p", "client", "1", Status.active, now - timedelta(days=1), last_synced_at=now)
changed: Counts = {"document": {"created": 0, "updated": 1, "deleted": 0, "unchanged": 9}}


def plan(
    run_depth: Depth = "usual",
    counts: Counts | None = None,
    took: timedelta = minute,
    status: RunStatus = RunStatus.completed,
    **state: Any,
) -> Connection:
    run = SyncRun("r", "c", status, now - took, run_depth, counts=counts or {})
    return plan_next(replace(connection, **state), run, provider, interval, position=0.5, now=now)


paces: dict[str, tuple[float, Counts, float]] = {
    "a change halves the time": (1.0, changed, 0.5),
    "down to the fastest": (0.3, changed, 0.25),
    "quiet adds a quarter": (1.0, {}, 1.25),
    "up to the slowest": (1.9, {}, 2.0),
    "one change wakes a quiet one": (2.0, changed, 1.0),
}


@pytest.mark.parametrize("case", paces)
def test_the_lists_follow_the_account_s_life_within_bounds(case: str) -> None:
    before, counts, expected = paces[case]
    planned = plan(counts=counts, sync_pace=before)
    assert planned.sync_pace == pytest.approx(expected)
    assert planned.lists_due_at == now + interval * expected


def test_the_first_run_says_nothing_about_a_life() -> None:
    assert plan("full", changed, last_synced_at=None).sync_pace == 1.0


def test_every_interval_asks_at_least_for_the_account() -> None:
    assert plan(sync_pace=2.0).sync_due_at == now + interval
    assert plan(counts=changed).sync_due_at == now + interval / 2


def test_a_pulse_changes_no_pace_and_waits_for_the_lists_where_they_come_first() -> None:
    planned = plan("pulse", sync_pace=2.0, lists_due_at=now + 5 * minute)
    assert (planned.sync_pace, planned.lists_due_at, planned.sync_due_at) == (2.0, now + 5 * minute, now + 5 * minute)


def test_one_more_run_that_was_asked_for_is_due_at_once() -> None:
    planned = plan(sync_requested=True)
    assert (planned.sync_due_at, planned.sync_requested) == (now, True)


@pytest.mark.parametrize(
    ("took", "rest"), [(minute, 60 * minute), (60 * minute, 480 * minute), (600 * minute, 24 * 60 * minute)]
)
def test_a_full_reading_rests_an_hour_and_eight_times_as_long_as_it_took(took: timedelta, rest: timedelta) -> None:
    assert plan("full", took=took).full_due_at == now + rest
    assert plan("usual", took=took, full_due_at=now).full_due_at == now


@pytest.mark.parametrize(("took", "rest"), [(minute, minute), (17 * minute, 17 * minute), (600 * minute, 60 * minute)])
def test_a_full_reading_that_failed_is_tried_again_after_as_long_as_it_took(took: timedelta, rest: timedelta) -> None:
    planned = plan("full", took=took, status=RunStatus.failed)
    assert planned.full_due_at == now + rest
    assert planned.sync_due_at is not None
    assert planned.sync_due_at >= now + interval, "not before the next usual turn"


def test_jitter_spreads_by_a_tenth() -> None:
    run = SyncRun("r", "c", RunStatus.completed, now)
    due = [plan_next(connection, run, provider, interval, position, now).sync_due_at for position in (0.0, 1.0)]
    assert due == [now + interval * 0.95, now + interval * 1.05]


later, past = now + minute, now - minute
depths: dict[str, tuple[dict[str, Any], bool, Depth]] = {
    "new": ({}, False, "full"),
    "nothing is due": ({"full_due_at": later, "lists_due_at": later}, False, "pulse"),
    "its lists are due": ({"full_due_at": later, "lists_due_at": past}, False, "usual"),
    "all of it is due": ({"full_due_at": past, "lists_due_at": later}, False, "full"),
    "someone asks": ({"full_due_at": later, "lists_due_at": later}, True, "full"),
    "limited": ({"full_due_at": later, "lists_due_at": later, "access_limited": True}, False, "usual"),
}


@pytest.mark.parametrize("case", depths)
def test_a_run_reads_as_much_as_is_due_and_all_that_is_asked_for(case: str) -> None:
    state, asked, expected = depths[case]
    assert choose_depth(replace(connection, **state), asked, now) == expected
