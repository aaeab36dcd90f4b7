"""One reading of a connection: what it reads, when it proves absence, what it counts."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.provider import Provider, Resource
from models.sync_run import (
    Counts,
    PageSeen,
    SyncRun,
    add_counts,
    fail,
    find_gone,
    finish,
    is_whole,
    plan_readings,
    retry_delay,
)

now = datetime(2026, 11, 24, 12, tzinfo=UTC)

lists: dict[str, tuple[list[PageSeen], bool]] = {
    "two pages": ([PageSeen(1, 3, 2, ("a", "b")), PageSeen(2, 3, 2, ("c",))], True),
    "two pages, read in another order": ([PageSeen(2, 3, 2, ("c",)), PageSeen(1, 3, 2, ("a", "b"))], True),
    "one empty page": ([PageSeen(1, 0, 1, ())], True),
    "nothing read": ([], False),
    "the last page is missing": ([PageSeen(1, 3, 2, ("a", "b"))], False),
    "the first page is missing": ([PageSeen(2, 3, 2, ("c",))], False),
    "the total changed meanwhile": ([PageSeen(1, 4, 2, ("a", "b")), PageSeen(2, 3, 2, ("c",))], False),
    "one id on two pages": ([PageSeen(1, 4, 2, ("a", "b")), PageSeen(2, 4, 2, ("b", "c"))], False),
    "fewer than it says": ([PageSeen(1, 3, 2, ("a", "b")), PageSeen(2, 3, 2, ())], False),
    "more than it says": ([PageSeen(1, 1, 1, ("a", "b"))], False),
    "a list that never held still": ([PageSeen(0, 0, 0, ()), PageSeen(1, 1, 1, ("a",))], False),
    "only the mark of one that never held still": ([PageSeen(0, 0, 0, ())], False),
}


@pytest.mark.parametrize("case", lists)
def test_only_a_list_read_without_a_gap_is_whole(case: str) -> None:
    pages, expected = lists[case]
    assert is_whole(pages) is expected


@given(st.lists(st.lists(st.integers(0, 40), max_size=5), min_size=1, max_size=6), st.data())
def test_a_list_that_lacks_an_id_of_its_total_is_never_whole(ids: list[list[int]], data: st.DataObject) -> None:
    names = {number for page in ids for number in page}
    total = data.draw(st.integers(len(names) + 1, 100))
    pages = [PageSeen(i + 1, total, len(ids), tuple(map(str, page))) for i, page in enumerate(ids)]
    assert not is_whole(pages)


def test_what_a_whole_reading_did_not_see_is_gone() -> None:
    pages = [PageSeen(1, 3, 2, ("a", "b")), PageSeen(2, 3, 2, ("c",))]
    assert find_gone({"d", "a", "c", "b2"}, pages) == ["b2", "d"]
    assert find_gone({"a", "b", "c"}, pages) == []


def test_a_run_reads_in_the_profile_s_order_and_a_team_s_lists_once_for_each_team() -> None:
    account, teams = Resource(name="account", path="/me"), Resource(name="t", path="/teams/{team}/x", per_team=True)
    documents = Resource(name="document", path="/documents")
    provider = Provider(name="p", authorize_url="a", token_url="t", api_url="i", resources=(account, teams, documents))
    assert [reading.path for reading in plan_readings(provider, (4, 2))] == [
        "/me",
        "/teams/4/x",
        "/teams/2/x",
        "/documents",
    ]
    assert [reading.resource.name for reading in plan_readings(provider, ())] == ["account", "document"]


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


def test_a_failing_run_waits_ever_longer_and_never_more_than_ten_minutes() -> None:
    assert [retry_delay(failures).total_seconds() for failures in (0, 1, 2, 3, 4, 5, 50)] == [
        5,
        5,
        20,
        80,
        320,
        600,
        600,
    ]


def test_a_run_that_ends_lets_go_of_everything_and_says_how_it_ended() -> None:
    run = SyncRun("r", "c", "running", now, resume_at=now, lease_owner="w", lease_until=now + timedelta(minutes=1))
    ended = SyncRun("r", "c", "completed", now, finished_at=now)
    assert finish(run, now) == ended
    failed = SyncRun("r", "c", "failed", now, finished_at=now, reason="provider_unavailable", description="HTTP 500")
    assert fail(run, "provider_unavailable", "HTTP 500", now) == failed
