"""What reading a list page by page proves: that it was seen whole, that a record is gone, or nothing.

A list moves while it is read. A record removed from a page already read pulls one over the edge of the next, and one
added at the same time keeps the total as it was: a single reading whose totals agree can still have missed a record.
So absence needs two readings in a row. The first one, S, was whole: every page, no id twice, and on the last page a
total of just as many. The second saw every id of S again. Each of these was there before and after that last page
was read, hence also then; and as many as they are was all there was. So the list was S at that moment, and what is not
in S was not there.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from models.journal import ListProblem

most_readings = 3


@dataclass(frozen=True, slots=True)
class PageSeen:
    """What one page of this run held: its ids, how many of its elements had none, and what it said of the list."""

    page: int
    total: int
    last_page: int
    ids: tuple[str, ...]
    nameless: int = 0


@dataclass(frozen=True, slots=True)
class ListSeen:
    """One list in the newest reading of this run, and in the one before; no pages where it could not be read."""

    key: str
    pages: tuple[PageSeen, ...]
    before: tuple[PageSeen, ...] = ()


@dataclass(frozen=True, slots=True)
class Whole:
    """All lists that can be read were; `gone` is proven to be."""

    gone: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadAgain:
    """The reading disagrees with itself or with what is stored: one more will tell."""


@dataclass(frozen=True, slots=True)
class Unproven:
    """Read as far as it can be; nothing counts as gone, and why."""

    why: ListProblem


Verdict = Whole | ReadAgain | Unproven


def ends_list(page: PageSeen, before: PageSeen | None, largest: int) -> bool:
    """Whether to stop after this page: the last one, the last that is allowed, or one that adds nothing to go on for
    (an empty one in the middle, or one that repeats what stood on the page before)."""
    if page.page >= min(page.last_page, largest):
        return True
    if not page.ids and not page.nameless:
        return True
    return before is not None and bool(page.ids) and set(page.ids) <= set(before.ids)


def is_whole(pages: Sequence[PageSeen]) -> bool:
    """Whether the pages are one list read without a gap: every page, one total throughout, as many ids as it says."""
    if not pages:
        return False
    numbers = sorted(page.page for page in pages)
    ids = [external_id for page in pages for external_id in page.ids]
    complete = numbers == list(range(1, pages[0].last_page + 1))
    return complete and {page.total for page in pages} == {len(ids)} and len(set(ids)) == len(ids)


def judge(lists: Sequence[ListSeen], living: Mapping[str, Collection[str]], reading: int, largest: int) -> Verdict:
    """What all lists of one resource prove after their `reading`th reading, counted from 0.

    `living` are the stored ids by list. What stands in any of the lists is not gone, even where it moved there.
    """
    read = [each for each in lists if each.pages]
    if any(page.nameless for each in read for page in each.pages):
        return Unproven(ListProblem.nameless_records)
    if any(page.page >= largest and page.last_page > largest for each in read for page in each.pages):
        return Unproven(ListProblem.list_too_long)
    again = Unproven(ListProblem.list_shifting) if reading + 1 >= most_readings else ReadAgain()
    if not all(is_whole(each.pages) for each in read):
        return again
    now = {external_id for each in read for page in each.pages for external_id in page.ids}
    missing = {external_id for each in read for external_id in living.get(each.key, ())} - now
    if not missing:
        return Whole(())
    before = {external_id for each in read for page in each.before for external_id in page.ids}
    if not all(is_whole(each.before) for each in read) or not before <= now:
        return again
    return Whole(tuple(sorted(missing - before)))


def is_vanishing(gone: int, living: int, share: float, count: int) -> bool:
    """Whether so much of a resource is gone at once, or all of it, that the provider may rather be mistaken."""
    return 0 < gone == living or (gone > count and gone > living * share)


def is_confirmed(gone: Mapping[str, int], held_back: Mapping[str, int]) -> bool:
    """Whether no list lacks more records now than were held back of it by the run before."""
    return all(count <= held_back.get(key, 0) for key, count in gone.items())


def is_quiet(page: PageSeen, changes: int, living: int) -> bool:
    """Whether a look at what is newest gives no reason to read on: nothing changed, and as many as we know of."""
    return not changes and not page.nameless and page.total == living
