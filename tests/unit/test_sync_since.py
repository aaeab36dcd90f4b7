"""From which value on a list is read between full readings: which values compare, and how far one reading proves."""

from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from models.api_response import Page
from models.provider import Provider, Resource
from models.sync.absence import ListSeen, PageSeen
from models.sync.decision import ListRead, PageRead, StepRows, StoredPage, StoredResource
from models.sync.page import parse_page
from models.sync.since import Marks, asked_resource, begin_at, choose_since, marks_after, newest_of, step_back
from models.sync.step import decide_step
from models.sync.sync_run import plan_lists
from tests.unit.test_sync_step import connection, credential, minute, now, run

values: dict[str, tuple[list[object], str | None]] = {
    "none": ([], None),
    "numbers": ([9, 10, 2], "10"),
    "a number and digits": ([9, "10"], "10"),
    "times": (["2026-11-24T12:00:00Z", "2026-11-24T13:00:00Z", "2025-12-31T23:00:00Z"], "2026-11-24T13:00:00Z"),
    "times of two zones": (["2026-11-24T12:30:00Z", "2026-11-24T13:00:00+01:00"], "2026-11-24T12:30:00Z"),
    "fractions": (["2026-11-24T12:00:00Z", "2026-11-24T12:00:00.25Z"], "2026-11-24T12:00:00.25Z"),
    "fractions of two lengths": (
        ["2026-11-24T12:00:00.123456789Z", "2026-11-24T12:00:00.2Z"],
        "2026-11-24T12:00:00.2Z",
    ),
    "times without a zone": (["2026-11-24 12:00:00", "2026-11-24 12:00:01"], "2026-11-24 12:00:01"),
    "some with a zone": (["2026-11-24T12:00:00", "2026-11-24T12:00:00Z"], None),
    "a time and a number": (["2026-11-24T12:00:00Z", 7], None),
    "one is missing": (["2026-11-24T12:00:00Z", None], None),
    "a day": (["2026-11-24"], None),
    "a day that is none": (["2026-02-30T12:00:00Z"], None),
    "a truth": ([True], None),
    "a fraction": ([1.5], None),
    "a negative number": ([-1], None),
    "a huge number": ([10**18], None),
    "digits of another script": (["١٢"], None),
    "a word": (["yesterday"], None),
    "a list": ([[7]], None),
}


@pytest.mark.parametrize("case", values)
def test_the_newest_value_is_known_only_if_all_are_of_one_kind(case: str) -> None:
    given, expected = values[case]
    assert newest_of(given) == expected


@pytest.mark.parametrize(
    ("text", "overlap", "expected"),
    [
        ("1000", 120, "880"),
        ("7", 120, "0"),
        ("2026-11-24T00:01:00Z", 120, "2026-11-23T23:59:00Z"),
        ("2026-11-24 12:00:00", 60, "2026-11-24 11:59:00"),
        ("2026-11-24T12:00:00.500+0100", 60, "2026-11-24T11:59:00.500+0100"),
        ("0001-01-01T00:00:10Z", 60, "0001-01-01T00:00:10Z"),
        ("2026-11-24T12:00:00Z", 0, "2026-11-24T12:00:00Z"),
    ],
)
def test_an_incremental_reading_begins_a_little_earlier_in_the_providers_format(
    text: str, overlap: int, expected: str
) -> None:
    assert step_back(text, overlap) == expected


def page(number: int, newest: str | None, last: int = 1, ids: str | None = None, **more: Any) -> PageSeen:
    return PageSeen(number, None, last, tuple(str(number) if ids is None else ids), newest=newest, **more)


readings: dict[str, tuple[Marks, list[PageSeen], bool, Marks]] = {
    "the first, on one page": (Marks(), [page(1, "5")], True, Marks("5", "5")),
    "the first, the oldest first": (Marks(), [page(1, "3", 2), page(2, "9", 2)], True, Marks("3", "9")),
    "the first, the newest first": (Marks(), [page(1, "9", 2), page(2, "3", 2)], True, Marks("9", "9")),
    "pages in another order": (Marks(), [page(2, "9", 2), page(1, "3", 2)], True, Marks("3", "9")),
    "the second, the oldest first": (Marks("3", "9"), [page(1, "4", 2), page(2, "12", 2)], False, Marks("9", "12")),
    "nothing changed": (Marks("9", "9"), [page(1, "9")], False, Marks("9", "9")),
    "nothing is so new": (Marks("9", "9"), [page(1, None, ids="")], False, Marks("9", "9")),
    "only older ones": (Marks("9", "9"), [page(1, "7")], False, Marks("9", "9")),
    "a gap": (Marks("3", "9"), [page(1, "12", 2)], False, Marks("3", "9")),
    "an id twice": (Marks("3", "9"), [page(1, "9", 2, "a"), page(2, "12", 2, "a")], False, Marks("3", "9")),
    "a nameless record": (Marks("3", "9"), [page(1, "12", nameless=1)], False, Marks("3", "9")),
    "values that can't be compared": (Marks("3", "9"), [page(1, None)], False, Marks()),
    "another kind than before": (Marks("3", "9"), [page(1, "2026-11-24T12:00:00Z")], False, Marks()),
    "another kind, all of it": (
        Marks("3", "9"),
        [page(1, "2026-11-24T12:00:00Z")],
        True,
        Marks(None, "2026-11-24T12:00:00Z"),
    ),
    "the newest was deleted": (Marks("99", "99"), [page(1, "9")], True, Marks("9", "9")),
    "all were deleted": (Marks("9", "9"), [page(1, None, ids="")], True, Marks()),
}


@pytest.mark.parametrize("case", readings)
def test_the_next_reading_begins_before_every_change_that_this_one_may_have_missed(case: str) -> None:
    before, pages, is_full, expected = readings[case]
    assert marks_after(before, pages, is_full) == expected


@pytest.mark.parametrize("seed", range(60))
def test_no_change_is_missed_however_records_change_while_they_are_read(seed: int) -> None:
    """Some readings are full, some incremental ones break off; pages go on behind the last id, two records each."""
    chance = Random(seed)
    changed_at = {each: each for each in range(1, 8)}
    stored: dict[int, int] = {}
    marks, clock = Marks(), 10
    for _ in range(12):
        since = None if marks.since is None or chance.random() < 0.2 else int(step_back(marks.since, 0))
        pages, last = list[PageSeen](), 0
        while True:
            for _ in range(chance.randrange(3)):
                clock += chance.randrange(2)
                changed_at[chance.choice([*changed_at, len(changed_at) + 1])] = clock
            left = sorted(each for each, at in changed_at.items() if each > last and (since is None or at >= since))
            stored |= {each: changed_at[each] for each in left[:2]}
            ids, following = tuple(map(str, left[:2])), len(pages) + 2 if len(left) > 2 else len(pages) + 1
            newest = newest_of(changed_at[each] for each in left[:2])
            pages.append(PageSeen(len(pages) + 1, None, following, ids, newest=newest))
            if len(left) <= 2 or (since is not None and chance.random() < 0.1):
                break
            last = left[1]
        marks = marks_after(marks, pages, since is None)
        missed = {each: at for each, at in changed_at.items() if stored.get(each) != at}
        assert marks.since is None or all(at >= int(marks.since) for at in missed.values()), (missed, marks)


account = Resource(name="account", path="/me")
issues = Resource(
    name="issue",
    path="/teams/{team}/issues",
    paging="link",
    per_team=True,
    since_parameter="since",
    since_field="updated_at",
    since_overlap=1,
)
provider = Provider(
    name="p",
    authorize_url="https://p/a",
    token_url="https://p/t",
    api_url="https://p/api",
    resources=(account, issues),
    peek_above=4,
)
plan = plan_lists(provider, (1, 2))
stored: dict[str, tuple[Marks, str | None]] = {"issue:1": (Marks("5", "9"), None), "issue:2": (Marks("6", "9"), None)}
starts: dict[str, tuple[dict[str, tuple[Marks, str | None]], int, dict[str, str]]] = {
    "both are known": ({}, 5, {"issue:1": "4", "issue:2": "5"}),
    "short lists": ({}, 4, {}),
    "one was never read": ({"issue:2": (Marks(), None)}, 5, {}),
    "one can't be compared": ({"issue:2": (Marks(None, "7"), None)}, 5, {}),
    "one shifted": ({"issue:2": (Marks("6", "9"), "list_shifting")}, 5, {}),
    "one failed": ({"issue:2": (Marks("6", "9"), "unreadable")}, 5, {}),
    "one misses many": ({"issue:2": (Marks("6", "9"), "many_gone")}, 5, {}),
    "one is forbidden": ({"issue:2": (Marks("6", "9"), "plan_required")}, 5, {"issue:1": "4"}),
    "one is not found": ({"issue:2": (Marks(), "not_found")}, 5, {"issue:1": "4"}),
    "one is of tomorrow": ({"issue:2": (Marks("2026-11-25T12:00:01Z", None), None)}, 5, {}),
    "one is of today": (
        {"issue:2": (Marks("2026-11-25T11:59:00Z", None), None)},
        5,
        {"issue:1": "4", "issue:2": "2026-11-25T11:58:59Z"},
    ),
    "one is of long after": ({"issue:2": (Marks("9999-12-31T23:59:59", None), None)}, 5, {}),
}


@pytest.mark.parametrize("case", starts)
def test_all_lists_of_a_resource_are_read_incrementally_or_none(case: str) -> None:
    changes, count, expected = starts[case]
    living = {"issue:1": count, "account": 100}
    assert choose_since(plan, stored | changes, living, provider, datetime(2026, 11, 24, 12, tzinfo=UTC)) == expected


def test_a_page_is_asked_for_with_the_value_beside_the_resources_own_query() -> None:
    begun = begin_at(plan, {"issue:1": "2026-11-24T12:00:00+00:00", "account": "7", "gone": "7"})
    assert [asked_resource(each, 1).query for each in begun] == ["", "since=2026-11-24T12%3A00%3A00%2B00%3A00", ""]
    own = replace(begun[1], resource=replace(issues, query="state=all", since_parameter="filter[from]"))
    assert asked_resource(own, 3).query == "state=all&filter%5Bfrom%5D=2026-11-24T12%3A00%3A00%2B00%3A00"
    assert asked_resource(replace(own, resource=replace(issues, peek="newest=1")), 0).query == "newest=1"


def test_the_value_of_a_page_is_read_before_its_volatile_fields_are_removed() -> None:
    resource = replace(issues, since_field="meta.at", volatile=("meta.at",))
    elements = ({"id": 1, "meta": {"at": 7}}, {"id": 2, "meta": {"at": 8}})
    assert parse_page(Page(elements, 1, 1, None), resource, provider).seen.newest == "8"
    assert parse_page(Page(elements, 1, 1, None), replace(issues, since_field=""), provider).seen.newest is None


def end_of(since: dict[str, str]) -> tuple[ListRead, ...]:
    """Return what is noted at the end of the second list, of which half of the records came."""
    first, second = PageSeen(1, None, 1, ("a",), newest="9"), PageSeen(1, None, 1, ("b",), newest="12")
    rows = StepRows(
        connection=connection,
        credential=credential,
        run=replace(run, depth="usual", place=2, since=since),
        plan=begin_at(plan, since),
        generation=3,
        provider=provider,
        interval=15 * minute,
        page=StoredPage(),
        resource=StoredResource(
            lists=(ListSeen("issue:1", (first,)), ListSeen("issue:2", ())),
            living={"issue:1": {"a"}, "issue:2": {"b", "c"}},
            marks={"issue:1": Marks("5", "9"), "issue:2": Marks("6", "9")},
        ),
    )
    decision = decide_step(rows, PageRead((), second), now)
    assert decision.deletion is None
    assert decision.run is not None
    assert (decision.run.place, decision.run.pass_number) == ((3, 0) if since else (1, 1))
    return tuple(note for note in decision.lists if isinstance(note, ListRead))


def test_an_incremental_reading_deletes_nothing_and_asks_for_no_second_pass() -> None:
    read = ListRead("issue:1", marks=Marks("9", "9")), ListRead("issue:2", marks=Marks("12", "12"))
    assert end_of({"issue:1": "4", "issue:2": "5"}) == read
    assert end_of({"issue:1": "4"}) == read, "nor is the other list's reading a proof"
    assert end_of({}) == ()
