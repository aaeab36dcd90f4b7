"""A run: what it reads, what it counts, how often it tries."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from models.provider import Provider, Resource
from models.sync.sync_run import (
    Counts,
    RunStatus,
    SyncRun,
    add_counts,
    count_seen,
    end,
    fail,
    fill_in_zeros,
    finish,
    gives_up,
    has_changes,
    leave_out_zeros,
    places_of,
    plan_lists,
    retry_delay,
)

now = datetime(2026, 11, 24, 12, tzinfo=UTC)
account, documents = Resource(name="account", path="/me"), Resource(name="document", path="/documents")
teams = Resource(name="t", path="/teams/{team}/x", per_team=True)
provider = Provider(
    name="p", authorize_url="a", token_url="t", api_url="i", resources=(account, teams, documents), account_path="/me"
)


def test_a_run_reads_in_the_profile_s_order_and_a_team_s_lists_once_for_each_team() -> None:
    lists = plan_lists(provider, (4, 2))
    assert [sync_list.path for sync_list in lists] == ["/me", "/teams/4/x", "/teams/2/x", "/documents"]
    assert [sync_list.key for sync_list in lists] == ["account", "t:4", "t:2", "document"]
    assert [each.key for each in plan_lists(provider, ())] == ["account", "document"]


def test_a_pulse_asks_for_the_account_alone_and_for_everything_where_no_list_is_the_account_s() -> None:
    assert [each.key for each in plan_lists(provider, (4,), "pulse")] == ["account"]
    bare = replace(provider, resources=(documents,))
    assert [each.key for each in plan_lists(bare, (), "pulse")] == ["document"]


def test_the_lists_of_all_teams_stand_together() -> None:
    lists = plan_lists(provider, (4, 2))
    assert [places_of(lists, place) for place in range(4)] == [range(1), range(1, 3), range(1, 3), range(3, 4)]


def test_counts_add_up_by_resource_and_leave_their_source_alone() -> None:
    none: Counts = {}
    first = add_counts(none, "document", {"created": 2})
    second = add_counts(first, "document", {"created": 1, "unchanged": 4})
    third = add_counts(second, "invoice", {"deleted": 1})
    assert third == {
        "document": {"created": 3, "updated": 0, "deleted": 0, "unchanged": 4},
        "invoice": {"created": 0, "updated": 0, "deleted": 1, "unchanged": 0},
    }
    assert none == {}
    assert first["document"]["created"] == 2


def test_pages_that_were_read_again_count_once() -> None:
    counts: Counts = {"document": {"created": 3, "updated": 2, "deleted": 0, "unchanged": 25}}
    assert count_seen(counts, "document", 10)["document"]["unchanged"] == 5
    assert count_seen(counts, "document", 1)["document"]["unchanged"] == 0
    assert count_seen({}, "document", 0) == {
        "document": dict.fromkeys(("created", "updated", "deleted", "unchanged"), 0)
    }


@pytest.mark.parametrize(
    ("counts", "without"),
    [
        ({}, {}),
        (add_counts({}, "document", {}), {"document": {}}),
        (add_counts({}, "document", {"unchanged": 7}), {"document": {"unchanged": 7}}),
        (
            add_counts(add_counts({}, "document", {"created": 1, "deleted": 2}), "invoice", {"updated": 3}),
            {"document": {"created": 1, "deleted": 2}, "invoice": {"updated": 3}},
        ),
    ],
    ids=["nothing read", "a resource without records", "one number", "two resources"],
)
def test_zeros_are_left_out_and_filled_in_again(counts: Counts, without: Counts) -> None:
    assert leave_out_zeros(counts) == without
    assert fill_in_zeros(without) == counts == fill_in_zeros(counts)


@pytest.mark.parametrize(
    ("kind", "changed"), [("created", True), ("updated", True), ("deleted", True), ("unchanged", 0)]
)
def test_what_stayed_the_same_is_no_change(kind: str, changed: bool) -> None:
    assert has_changes(add_counts({}, "document", {kind: 1})) is bool(changed)


def test_a_run_is_patient_five_times_and_after_one_list_that_failed_only_twice() -> None:
    run = SyncRun("r", "c", RunStatus.running, now)
    assert [gives_up(replace(run, failures=failures)) for failures in (1, 4, 5)] == [False, False, True]
    failed = replace(run, reason="provider_unavailable")
    assert [gives_up(replace(failed, failures=failures)) for failures in (1, 2)] == [False, True]


def test_a_failing_run_waits_ever_longer_and_never_more_than_ten_minutes() -> None:
    seconds = [retry_delay(failures).total_seconds() for failures in (0, 1, 2, 3, 4, 5, 50)]
    assert seconds == [5, 5, 20, 80, 320, 600, 600]


def test_a_failing_run_waits_as_long_as_it_is_told_to_within_ten_minutes() -> None:
    waits = [retry_delay(1, timedelta(seconds=told)).total_seconds() for told in (1, 60, 600, 86_400)]
    assert waits == [1, 60, 600, 600]


def test_a_run_that_ends_lets_go_of_everything_and_says_how_it_ended() -> None:
    run = SyncRun(
        "r", "c", RunStatus.running, now, resume_at=now, lease_owner="w", lease_until=now + timedelta(minutes=1)
    )
    ended = SyncRun("r", "c", RunStatus.completed, now, finished_at=now)
    assert finish(run, now) == ended
    failed = SyncRun(
        "r", "c", RunStatus.failed, now, finished_at=now, reason="provider_unavailable", description="HTTP 500"
    )
    assert fail(run, "provider_unavailable", "HTTP 500", now) == failed


def test_a_run_whose_connection_ended_keeps_its_place_and_lets_go_of_its_lease() -> None:
    leased = SyncRun(
        "r", "c", RunStatus.running, now, place=2, page=3, resume_at=now, lease_owner="w", lease_until=now, failures=1
    )
    expected = SyncRun("r", "c", RunStatus.ended, now, place=2, page=3, failures=1, reason="disconnected")
    assert end(leased, "disconnected") == expected
