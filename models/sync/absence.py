"""What the pages of a list prove: that it was read without a gap, that a record was deleted, or nothing.

A list changes while it is read. If a record is deleted from a page that was already read, another one moves to that
page from the next and is not seen; if one is added at the same time, even the totals agree. So a deletion is proven by
two passes in a row. If the provider says how many records there are, the first pass, S, was complete: every page, no id
twice, and on the last page a total of as many ids. The second pass saw every id of S again. Each of these ids existed
before and after that last page was read, so also at that moment, and the total says that there were no others. So the
list was S at that moment, and a record that is not in S was not in the list.

Without a total the first pass is only known to be complete in itself: every page up to the one that ends the list, no
id twice. Then the second pass must have seen exactly S. If a record was not seen because another one left a page that
was already read, that other one is in the first pass and not in the second.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from models.journal import ListProblem

most_passes = 3


@dataclass(frozen=True, slots=True)
class PageSeen:
    """One page that this run read: its ids, how many of its elements have none, and what it says about its list.

    total: how many records the list has; None if the provider does not say it.
    last_page: the list's last page; if the provider does not say it, one more than this page until the end.
    newest: the newest value of the field by which the list can be read incrementally; None if there is none, or if the
        records' values can't be compared.
    """

    page: int
    total: int | None
    last_page: int
    ids: tuple[str, ...]
    nameless: int = 0
    newest: str | None = None


@dataclass(frozen=True, slots=True)
class ListSeen:
    """A list in the newest pass of this run, and in the pass before; without pages if it cannot be read."""

    key: str
    pages: tuple[PageSeen, ...]
    before: tuple[PageSeen, ...] = ()


@dataclass(frozen=True, slots=True)
class Whole:
    """Every list that can be read was read without a gap; `gone` are the ids that are proven to be deleted."""

    gone: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadAgain:
    """The pass contradicts itself or what is stored, so another one is needed."""


@dataclass(frozen=True, slots=True)
class Unproven:
    """No record counts as deleted, and `why`."""

    why: ListProblem


Verdict = Whole | ReadAgain | Unproven


def choose_compared(page: int) -> tuple[int, ...]:
    """Return the numbers of the earlier pages that a page is compared with.

    It is the one before, and the two from the last power of two on, as in Brent's search for a cycle: so a cursor that
    leads back, however far, is noticed before three times as many pages are read as there are, and no other page has to
    be kept for that. There are two, because one of them may be empty.
    """
    kept = 1 << max(page - 1, 1).bit_length() - 1
    return tuple(sorted({number for number in (kept, kept + 1, page - 1) if 0 < number < page}))


def ends_list(page: PageSeen, earlier: Collection[PageSeen], largest: int, has_cursor: bool = False) -> bool:
    """Whether the list ends with this page: the last one, the last that we read, or one that brings nothing new (an
    empty one in the middle, or one that repeats an earlier page). If it names the next one, it may be empty."""
    if page.page >= min(page.last_page, largest):
        return True
    if not page.ids and not page.nameless and not has_cursor:
        return True
    return bool(page.ids) and any(set(page.ids) <= set(each.ids) for each in earlier)


def is_unreadable(page: PageSeen) -> bool:
    """Whether a list begins with records of which none has an id."""
    return page.page == 1 and page.nameless > 0 and not page.ids


def is_whole(pages: Sequence[PageSeen]) -> bool:
    """Whether the list was read without a gap: every page up to the last, no id twice, and if there are totals, the
    same on each page, and as many ids."""
    if not pages:
        return False
    last = len(pages)
    ids = [external_id for page in pages for external_id in page.ids]
    complete = sorted(page.page for page in pages) == list(range(1, last + 1))
    ended = all(page.last_page in ({last} if page.page == last else {last, page.page + 1}) for page in pages)
    counted = {page.total for page in pages} <= {len(ids)} or not any(has_total(page) for page in pages)
    return complete and ended and counted and len(set(ids)) == len(ids)


def has_total(page: PageSeen) -> bool:
    """Whether the provider says how many records the list has."""
    return page.total is not None


def judge(
    lists: Sequence[ListSeen],
    living: Mapping[str, Collection[str]],
    pass_number: int,
    largest: int,
    has_unread: bool = False,
) -> Verdict:
    """Return what all lists of one resource prove after this pass; the first one has the number 0.

    `living` are the stored ids of each list that are not deleted. An id in any of the lists is not gone, even if it
    moved there. With `has_unread` it may have moved to a list that was not read.
    """
    read = [each for each in lists if each.pages]
    if any(page.nameless for each in read for page in each.pages):
        return Unproven(ListProblem.nameless_records)
    if any(page.page >= largest and page.last_page > largest for each in read for page in each.pages):
        return Unproven(ListProblem.list_too_long)
    again = Unproven(ListProblem.list_shifting) if pass_number + 1 >= most_passes else ReadAgain()
    if not all(is_whole(each.pages) for each in read):
        return again
    now = {external_id for each in read for page in each.pages for external_id in page.ids}
    missing = {external_id for each in read for external_id in living.get(each.key, ())} - now
    if not missing:
        return Whole(())
    if has_unread:
        return Unproven(ListProblem.other_list_unread)
    before = {external_id for each in read for page in each.before for external_id in page.ids}
    counted = all(has_total(page) for each in read for page in each.before)
    if not all(is_whole(each.before) for each in read) or not (before <= now if counted else before == now):
        return again
    return Whole(tuple(sorted(missing - before)))


def is_vanishing(gone: int, living: int, share: float, count: int) -> bool:
    """Whether all of a resource is gone at once, or so much that it may be the provider's mistake."""
    return 0 < gone == living or (gone > count and gone > living * share)


def is_confirmed(gone: Mapping[str, int], held_back: Mapping[str, int]) -> bool:
    """Whether no list misses more records than it did in the run before, which kept them."""
    return all(count <= held_back.get(key, 0) for key, count in gone.items())


def is_quiet(page: PageSeen, changes: int, living: int) -> bool:
    """Whether a look at the newest records is enough: nothing changed, and the total is the number of stored ones."""
    return not changes and not page.nameless and page.total == living
