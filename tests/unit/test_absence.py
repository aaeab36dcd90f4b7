"""What the pages of a list prove: that it was read without a gap, that a record is gone, or nothing."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.journal import ListProblem
from models.sync.absence import (
    ListSeen,
    PageSeen,
    ReadAgain,
    Unproven,
    Verdict,
    Whole,
    choose_compared,
    ends_list,
    is_confirmed,
    is_quiet,
    is_vanishing,
    is_whole,
    judge,
)

lists: dict[str, tuple[list[PageSeen], bool]] = {
    "two pages": ([PageSeen(1, 3, 2, ("a", "b")), PageSeen(2, 3, 2, ("c",))], True),
    "two pages, read in another order": ([PageSeen(2, 3, 2, ("c",)), PageSeen(1, 3, 2, ("a", "b"))], True),
    "one empty page": ([PageSeen(1, 0, 1, ())], True),
    "nothing read": ([], False),
    "the last page is missing": ([PageSeen(1, 3, 2, ("a", "b"))], False),
    "the first page is missing": ([PageSeen(2, 3, 2, ("c",))], False),
    "the total changed meanwhile": ([PageSeen(1, 4, 2, ("a", "b")), PageSeen(2, 3, 2, ("c",))], False),
    "one id on two pages": ([PageSeen(1, 4, 2, ("a", "b")), PageSeen(2, 4, 2, ("b", "c"))], False),
    "one id twice on a page": ([PageSeen(1, 3, 1, ("a", "b", "b"))], False),
    "fewer than it says": ([PageSeen(1, 3, 2, ("a", "b")), PageSeen(2, 3, 2, ())], False),
    "more than it says": ([PageSeen(1, 1, 1, ("a", "b"))], False),
    "without totals": (
        [PageSeen(1, None, 2, ("a", "b")), PageSeen(2, None, 3, ()), PageSeen(3, None, 3, ("c",))],
        True,
    ),
    "without totals, not ended": ([PageSeen(1, None, 2, ("a", "b")), PageSeen(2, None, 3, ("c",))], False),
    "without totals, one id twice": ([PageSeen(1, None, 2, ("a", "b")), PageSeen(2, None, 2, ("b",))], False),
    "without totals, a page missing": ([PageSeen(1, None, 2, ("a",)), PageSeen(3, None, 3, ("b",))], False),
    "a total on one page only": ([PageSeen(1, 2, 2, ("a",)), PageSeen(2, None, 2, ("b",))], False),
    "a total, and no number of pages": ([PageSeen(1, 2, 2, ("a",)), PageSeen(2, 2, 2, ("b",))], True),
    "another number of pages in the end": ([PageSeen(1, 3, 3, ("a", "b")), PageSeen(2, 3, 2, ("c",))], False),
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


ends: dict[str, tuple[PageSeen, PageSeen | None, bool]] = {
    "the last page": (PageSeen(2, 3, 2, ("c",)), PageSeen(1, 3, 2, ("a", "b")), True),
    "one in the middle": (PageSeen(2, 6, 3, ("c", "d")), PageSeen(1, 6, 3, ("a", "b")), False),
    "a million pages claimed": (PageSeen(1, 10, 1_000_000, ("a",)), None, False),
    "the longest that is read": (PageSeen(50, 10**6, 10**5, ("a",)), None, True),
    "an empty one in the middle": (PageSeen(2, 20, 1_000_000, ()), PageSeen(1, 20, 1_000_000, ("a",)), True),
    "only nameless ones": (PageSeen(2, 20, 9, (), 10), PageSeen(1, 20, 9, ("a",)), False),
    "the page before once more": (PageSeen(2, 20, 9, ("b", "a")), PageSeen(1, 20, 9, ("a", "b")), True),
    "one of the page before": (PageSeen(2, 20, 9, ("b", "c")), PageSeen(1, 20, 9, ("a", "b")), False),
}


def test_a_page_that_names_the_next_one_may_be_empty() -> None:
    empty = PageSeen(2, None, 3, ())
    assert [ends_list(empty, (), 50, has_cursor) for has_cursor in (True, False)] == [False, True]
    assert ends_list(empty, (), 2, has_cursor=True)


@pytest.mark.parametrize("case", ends)
def test_a_list_ends_at_its_last_page_or_where_nothing_new_comes(case: str) -> None:
    page, before, expected = ends[case]
    assert ends_list(page, () if before is None else (before,), largest=50) is expected


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (1, ()),
        (2, (1,)),
        (3, (2,)),
        (4, (2, 3)),
        (5, (4,)),
        (6, (4, 5)),
        (8, (4, 5, 7)),
        (9, (8,)),
        (300, (256, 257, 299)),
    ],
)
def test_a_page_is_compared_with_a_few_earlier_ones(page: int, expected: tuple[int, ...]) -> None:
    assert choose_compared(page) == expected


@pytest.mark.parametrize("empty", [0, 1], ids=["every page has records", "one page has none"])
@pytest.mark.parametrize("back_to", range(1, 41))
def test_a_list_whose_cursor_leads_back_ends_however_far_back_that_is(back_to: int, empty: int) -> None:
    pages: list[PageSeen] = []
    while True:
        number = len(pages) + 1
        place = number if number <= 40 else back_to + (number - back_to) % (41 - back_to)
        ids = () if empty and place == 40 and back_to < 40 else (str(place),)
        pages.append(PageSeen(number, None, number + 1, ids))
        earlier = [pages[other - 1] for other in choose_compared(number)]
        if ends_list(pages[-1], earlier, 10_000, has_cursor=True):
            break
    assert 40 < len(pages) <= 3 * 40
    assert not is_whole(pages)


def seen(*pages: str, total: int | None = None, nameless: int = 0) -> tuple[PageSeen, ...]:
    """Pages of one-letter ids, all with the same total."""
    whole = sum(map(len, pages)) if total is None else total
    return tuple(PageSeen(i + 1, whole, len(pages), tuple(page), nameless) for i, page in enumerate(pages))


def uncounted(*pages: str) -> tuple[PageSeen, ...]:
    """Pages of a list that says neither how many records nor how many pages it has."""
    return tuple(PageSeen(i + 1, None, min(i + 2, len(pages)), tuple(page)) for i, page in enumerate(pages))


def one(pages: tuple[PageSeen, ...], before: tuple[PageSeen, ...] = ()) -> list[ListSeen]:
    return [ListSeen("document", pages, before)]


verdicts: dict[str, tuple[list[ListSeen], dict[str, str], int, Verdict]] = {
    "nothing is missing": (one(seen("ab", "c")), {"document": "abc"}, 0, Whole(())),
    "nothing is stored yet": (one(seen("ab", "c")), {}, 0, Whole(())),
    "something is missing": (one(seen("ab", "c")), {"document": "abcd"}, 0, ReadAgain()),
    "missing twice in a row": (one(seen("ab", "c"), seen("ab", "c")), {"document": "abcd"}, 1, Whole(("d",))),
    "and something was added": (one(seen("ab", "ce"), seen("ab", "c")), {"document": "abcd"}, 1, Whole(("d",))),
    "back in the second": (one(seen("ab", "cd"), seen("ab", "c")), {"document": "abcd"}, 1, Whole(())),
    "missing in the second only": (one(seen("ab", "c"), seen("ab", "cd")), {"document": "abcd"}, 1, ReadAgain()),
    "one removed, one added between two pages": (
        one(seen("ab", "de"), seen("ab", "de")),
        {"document": "abcde"},
        1,
        Whole(("c",)),
    ),
    "the first was torn": (one(seen("ab", "c"), seen("ab", "c", total=4)), {"document": "abcd"}, 1, ReadAgain()),
    "torn": (one(seen("ab", "c", total=4)), {"document": "abc"}, 0, ReadAgain()),
    "torn for the last time": (
        one(seen("ab", "c", total=4)),
        {"document": "abc"},
        2,
        Unproven(ListProblem.list_shifting),
    ),
    "a nameless element": (one(seen("ab", nameless=1)), {"document": "abc"}, 0, Unproven(ListProblem.nameless_records)),
    "longer than is read": (
        one((PageSeen(50, 1000, 100, ("a",)),)),
        {"document": "abc"},
        0,
        Unproven(ListProblem.list_too_long),
    ),
    "emptied": (one(seen(""), seen("")), {"document": "ab"}, 1, Whole(("a", "b"))),
    "a team that can't be read keeps its records": (
        [ListSeen("t:1", seen("a"), seen("a")), ListSeen("t:2", ())],
        {"t:1": "ab", "t:2": "cd"},
        1,
        Whole(("b",)),
    ),
    "moved from one team to another": (
        [ListSeen("t:1", seen("a")), ListSeen("t:2", seen("bc"))],
        {"t:1": "ab", "t:2": "c"},
        0,
        Whole(()),
    ),
    "uncounted, nothing is missing": (one(uncounted("ab", "c")), {"document": "abc"}, 0, Whole(())),
    "uncounted, missing once": (one(uncounted("ab", "c")), {"document": "abcd"}, 0, ReadAgain()),
    "uncounted, missing twice": (
        one(uncounted("ab", "c"), uncounted("a", "bc")),
        {"document": "abcd"},
        1,
        Whole(("d",)),
    ),
    "uncounted, and something was added": (
        one(uncounted("ab", "ce"), uncounted("ab", "c")),
        {"document": "abcd"},
        1,
        ReadAgain(),
    ),
    "uncounted, and never the same": (
        one(uncounted("ab", "ce"), uncounted("ab", "c")),
        {"document": "abcd"},
        2,
        Unproven(ListProblem.list_shifting),
    ),
    "no list can be read": ([ListSeen("t:1", ())], {"t:1": "ab"}, 0, Whole(())),
}


@pytest.mark.parametrize("case", verdicts)
def test_absence_takes_two_passes_in_a_row(case: str) -> None:
    seen_lists, living, pass_number, expected = verdicts[case]
    assert judge(seen_lists, living, pass_number, largest=50) == expected


unread: dict[str, tuple[str, Verdict]] = {
    "nothing is missing": ("ab", Whole(())),
    "something is missing": ("abc", Unproven(ListProblem.other_list_unread)),
}


@pytest.mark.parametrize("case", unread)
def test_what_is_missing_may_be_in_a_list_that_was_not_read(case: str) -> None:
    living, expected = unread[case]
    read = [ListSeen("t:1", seen("ab"), seen("ab")), ListSeen("t:2", ())]
    assert judge(read, {"t:1": living}, 1, largest=50, has_unread=True) == expected


class Shifting:
    """A list by rising id that loses and gains records while it is read; what goes never comes back."""

    def __init__(self, size: int, dice: Random) -> None:
        self.dice = dice
        self.ids = list(range(size))
        self.ever_gone: set[int] = set()

    def shift(self) -> None:
        """Mostly nothing, or one out and one in, which the total does not tell."""
        out, into = self.dice.choice([(0, 0)] * 4 + [(1, 1)] * 3 + [(1, 0), (0, 1)])
        if out and self.ids:
            self.ever_gone.add(self.ids.pop(self.dice.randrange(len(self.ids))))
        if into:
            self.ids.append(max([*self.ids, *self.ever_gone], default=0) + 1)

    def read(self, newest_first: bool) -> tuple[PageSeen, ...]:
        pages, number, last = [], 1, 1
        while number <= last:
            self.shift()
            ordered = self.ids[::-1] if newest_first else self.ids
            last = max(-(-len(ordered) // 3), 1)
            cut = ordered[(number - 1) * 3 : number * 3]
            pages.append(PageSeen(number, len(ordered), last, tuple(map(str, cut))))
            number += 1
        return tuple(pages)


@settings(max_examples=400)
@given(st.integers(0, 12), st.integers(0, 2**32), st.booleans())
def test_what_is_taken_for_gone_is_gone_however_the_list_shifts(size: int, seed: int, newest_first: bool) -> None:
    listed = Shifting(size, Random(seed))
    stored = {str(i) for i in listed.ids}
    before: tuple[PageSeen, ...] = ()
    for pass_number in range(3):
        pages = listed.read(newest_first)
        verdict = judge([ListSeen("d", pages, before)], {"d": stored}, pass_number, 100)
        if isinstance(verdict, Whole):
            assert {int(i) for i in verdict.gone} <= listed.ever_gone
            return
        before = pages


vanishings = [
    (10, 11, False),
    (11, 12, True),
    (11, 22, False),
    (12, 22, True),
    (400, 1000, False),
    (1, 1, True),
    (1, 2, False),
    (0, 0, False),
    (0, 5, False),
]


@pytest.mark.parametrize(("gone", "living", "expected"), vanishings)
def test_all_or_more_than_a_share_and_more_than_a_few_is_a_vanishing(gone: int, living: int, expected: bool) -> None:
    assert is_vanishing(gone, living, share=0.5, count=10) is expected


confirmations: dict[str, tuple[dict[str, int], dict[str, int], bool]] = {
    "as many": ({"t:1": 11}, {"t:1": 11}, True),
    "fewer": ({"t:1": 4, "t:2": 0}, {"t:1": 11, "t:2": 3}, True),
    "more": ({"t:1": 20}, {"t:1": 11}, False),
    "of another list": ({"t:1": 0, "t:2": 11}, {"t:1": 30, "t:2": 0}, False),
    "nothing was held back": ({"t:1": 11}, {}, False),
}


@pytest.mark.parametrize("case", confirmations)
def test_no_more_is_gone_by_the_second_run_than_the_first_held_back_of_each_list(case: str) -> None:
    gone, held_back, expected = confirmations[case]
    assert is_confirmed(gone, held_back) is expected


@pytest.mark.parametrize(
    ("page", "changes", "expected"),
    [
        (PageSeen(1, 40, 4, ("a",)), 0, True),
        (PageSeen(1, 40, 4, ("a",)), 1, False),
        (PageSeen(1, 41, 5, ("a",)), 0, False),
        (PageSeen(1, 40, 4, ("a",), 1), 0, False),
        (PageSeen(1, None, 2, ("a",)), 0, False),
    ],
)
def test_a_look_is_quiet_where_nothing_changed_and_nothing_came_or_went(
    page: PageSeen, changes: int, expected: bool
) -> None:
    assert is_quiet(page, changes, living=40) is expected
