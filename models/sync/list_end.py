"""The end of a list: where the run continues, and after a resource's last list which records are deleted."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import assert_never

from models.journal import ListProblem, Note, Verb
from models.messaging.events import RecordChanged
from models.provider import Resource
from models.sync.absence import (
    ListSeen,
    PageSeen,
    ReadAgain,
    Unproven,
    Whole,
    is_confirmed,
    is_vanishing,
    judge,
)
from models.sync.decision import Deletion, ListRead, ListSkipped, StepDecision, StepRows, go_on
from models.sync.since import Marks, is_incremental, marks_after
from models.sync.sync_run import Counts, SyncRun, add_counts, count_seen, name_list, places_of

no_records = (PageSeen(1, 0, 1, ()),)
"""What a list would show that has no records."""
_unread = (ListProblem.unreadable, ListProblem.nameless_records)
"""Why a list was skipped that may have records; one that is forbidden or not found has none for this account."""
_incomplete = (*_unread, ListProblem.list_shifting, ListProblem.list_too_long)
"""Why parents may be unknown."""


def skip_list(rows: StepRows, problem: ListProblem, now: datetime) -> StepDecision:
    """Leave the list that the run is at: none of its records counts as deleted."""
    decision = StepDecision(
        subject=rows.connection,
        at=now,
        connection=rows.connection,
        lists=(ListSkipped(rows.sync_list.key, problem),),
    )
    return end_list(rows, decision, replace(rows.run, failures=0))


def end_list(rows: StepRows, decision: StepDecision, run: SyncRun) -> StepDecision:
    """Continue with the resource's next list, or after its last one with what all of them prove."""
    if run.place + 1 in places_of(rows.plan, run.place):
        return _open(rows, decision, run, run.place + 1)
    return _end_resource(rows, decision, run)


def end_without_lists(rows: StepRows, decision: StepDecision, run: SyncRun, resource: Resource) -> StepDecision:
    """Leave a resource of which there is no list to read; the list that the run is at comes after it."""
    if not _has_unread(rows, decision, resource):
        decision = _delete_orphans(decision, resource.name, _orphans_after(rows, decision))
    return _open(rows, decision, replace(run, counts=_count_deleted(run, resource.name, decision)), run.place)


def _open(rows: StepRows, decision: StepDecision, run: SyncRun, place: int) -> StepDecision:
    return go_on(decision, replace(run, place=place, page=0 if _is_peeked_at(rows, run, place) else 1, cursor=None))


def _is_peeked_at(rows: StepRows, run: SyncRun, place: int) -> bool:
    """Whether the run looks at the newest records of this list first, because the list is long."""
    if place >= len(rows.plan) or run.depth != "usual" or run.pass_number:
        return False
    sync_list = rows.plan[place]
    left = sum(not before.deleted and before.source == sync_list.key for before in rows.page.known.values())
    return bool(sync_list.resource.peek) and rows.resource.next_living - left > rows.provider.peek_above


def _end_resource(rows: StepRows, decision: StepDecision, run: SyncRun) -> StepDecision:
    places = places_of(rows.plan, run.place)
    resource = rows.plan[places.start].resource
    name = resource.name
    every_list = _lists_after(rows, decision)
    lists = [each for each in every_list if each.pages]
    if is_incremental(rows.plan, run.place, run.since):
        notes = tuple(_note_changes_read(rows, each) for each in lists)
        decision = replace(decision, lists=(*decision.lists, *notes))
        return _open(rows, decision, replace(run, pass_number=0), places.stop)
    living = {each.key: _living_after(rows, decision, each.key) for each in lists}
    orphans = _orphans_after(rows, decision)
    # Below its parent an id is nowhere else; any other may be on a page of another list that was not seen.
    doubtful = {} if resource.id_scope == "parent" else orphans
    empty = [ListSeen(key, no_records, no_records) for key in doubtful]
    has_unread = _has_unread(rows, decision, resource, every_list)
    verdict = judge([*lists, *empty], living | doubtful, run.pass_number, rows.provider.longest_list, has_unread)
    if isinstance(verdict, ReadAgain):
        return _open(rows, decision, replace(run, pass_number=run.pass_number + 1), places.start)
    if lists:
        seen = {external_id for each in lists for page in each.pages for external_id in page.ids}
        run = replace(run, counts=count_seen(run.counts, name, len(seen)))
    match verdict:
        case Whole(gone):
            created = run.counts.get(name, {}).get("created", 0)
            missing = frozenset(gone).difference(*orphans.values())
            decision = _with_marks(rows, _delete(rows, decision, name, living, missing, created), lists)
            decision = _delete_orphans(decision, name, orphans)
        case Unproven(why):
            read = tuple(ListRead(each.key, why) for each in lists)
            note = Note(Verb.reading_unproven, {"problem": why, "resource": name})
            decision = replace(decision, lists=(*decision.lists, *read), notes=(*decision.notes, note))
            decision = decision if doubtful else _delete_orphans(decision, name, orphans)
        case _:
            assert_never(verdict)
    run = replace(run, counts=_count_deleted(run, name, decision), pass_number=0)
    return _open(rows, decision, run, places.stop)


def _has_unread(rows: StepRows, decision: StepDecision, resource: Resource, lists: Sequence[ListSeen] = ()) -> bool:
    """Whether a record of the resource may be in a list that this run did not read: one that keeps failing, or that of
    a parent which is unknown, cannot be named, or is one too many.

    A problem that is stored of a list without pages is this run's.
    """
    if resource.id_scope == "parent":
        return False
    problems: dict[str, str | None] = {**rows.resource.problems}
    problems |= {note.key: note.problem for note in decision.lists if isinstance(note, ListSkipped)}
    if any(problems.get(each.key) in _unread for each in lists if not each.pages):
        return True
    if not resource.parent:
        return False
    below = name_list(resource, "")
    return (
        problems.get(resource.name) == ListProblem.too_many_parents
        or any(problem == ListProblem.unusable_parent for key, problem in problems.items() if key.startswith(below))
        or any(problems.get(each.key) in _incomplete for each in rows.plan if each.resource.name == resource.parent)
    )


def _note_changes_read(rows: StepRows, sync_list: ListSeen) -> ListRead:
    """Note how far a list was read incrementally; one that was not, beside such a list, proves no deletion either."""
    before = rows.resource.marks.get(sync_list.key, Marks())
    return ListRead(sync_list.key, marks=marks_after(before, sync_list.pages, sync_list.key not in rows.run.since))


def _with_marks(rows: StepRows, decision: StepDecision, lists: Sequence[ListSeen]) -> StepDecision:
    """Return the decision with how far each list was read, if it can be read incrementally."""
    if not rows.sync_list.resource.since_field:
        return decision
    marks = {each.key: marks_after(rows.resource.marks.get(each.key, Marks()), each.pages, True) for each in lists}
    noted = (
        replace(note, marks=marks.get(note.key)) if isinstance(note, ListRead) else note for note in decision.lists
    )
    return replace(decision, lists=tuple(noted))


def _lists_after(rows: StepRows, decision: StepDecision) -> list[ListSeen]:
    """Return what this run has seen of the resource's lists, with this step's answer."""
    skipped = {note.key for note in decision.lists if isinstance(note, ListSkipped)}
    lists = [ListSeen(each.key, ()) if each.key in skipped else each for each in rows.resource.lists]
    page = decision.page
    if page is None:
        return lists
    return [replace(each, pages=_with_page(each.pages, page.seen)) if each.key == page.key else each for each in lists]


def _with_page(pages: tuple[PageSeen, ...], seen: PageSeen) -> tuple[PageSeen, ...]:
    return (*(page for page in pages if page.page != seen.page), seen)


def _living_after(rows: StepRows, decision: StepDecision, key: str) -> set[str]:
    """Return the records of a list that are not deleted once this step is written: a page brings its ids to its list,
    and takes those that moved from another list."""
    living = set(rows.resource.living.get(key, ()))
    if decision.page is not None and decision.page.key == key:
        return living | set(decision.page.seen.ids)
    return living if decision.changes is None else living - set(decision.changes.moved)


def _delete(
    rows: StepRows,
    decision: StepDecision,
    name: str,
    living: Mapping[str, set[str]],
    gone: frozenset[str],
    created: int,
) -> StepDecision:
    """Delete what is proven to be gone; if that is much at once, only in the second run in a row.

    It is compared with what was stored before the run, so without the records that the run itself `created`.
    """
    lost = {key: len(ids & gone) for key, ids in living.items()}
    of = max(sum(map(len, living.values())) - created, sum(lost.values()))
    if _must_hold_back(rows, lost, of):
        many = ListProblem.many_gone
        kept = tuple(ListRead(key, many, count) if count else ListRead(key) for key, count in lost.items())
        note = Note(Verb.deletion_held_back, {"problem": many, "resource": name, "gone": len(gone), "of": of})
        return replace(decision, lists=(*decision.lists, *kept), notes=(*decision.notes, note))
    decision = replace(decision, lists=(*decision.lists, *map(ListRead, living)))
    if not gone:
        return decision
    ids = tuple(sorted(gone))
    facts = [RecordChanged("deleted", name, external_id, (), False) for external_id in ids]
    return replace(decision, deletion=Deletion(name, ids), facts=(*decision.facts, *facts))


def _orphans_after(rows: StepRows, decision: StepDecision) -> dict[str, set[str]]:
    """Return the records of each list whose parent is deleted, but for those that this step finds in another list."""
    moved = () if decision.changes is None else decision.changes.moved
    return {key: set(ids).difference(moved) for key, ids in rows.resource.orphans.items()}


def _delete_orphans(decision: StepDecision, name: str, orphans: Mapping[str, set[str]]) -> StepDecision:
    """Delete the records of deleted parents, however many they are, and forget their lists: that the parents are gone
    is proven, and confirmed if they are many."""
    if not orphans:
        return decision
    ids = tuple(sorted(set().union(*orphans.values())))
    decision = replace(decision, forgotten=tuple(orphans))
    if not ids:
        return decision
    before = () if decision.deletion is None else decision.deletion.ids
    facts = [RecordChanged("deleted", name, external_id, (), False) for external_id in ids]
    return replace(decision, deletion=Deletion(name, (*before, *ids)), facts=(*decision.facts, *facts))


def _count_deleted(run: SyncRun, name: str, decision: StepDecision) -> Counts:
    return add_counts(run.counts, name, {"deleted": 0 if decision.deletion is None else len(decision.deletion.ids)})


def _must_hold_back(rows: StepRows, lost: Mapping[str, int], living: int) -> bool:
    """Whether so much is missing, counted by list, that a second run must confirm it, and this is not that run."""
    share, count = rows.provider.vanishing_share, rows.provider.vanishing_records
    if not is_vanishing(sum(lost.values()), living, share, count):
        return False
    return not is_confirmed(lost, rows.resource.held_back)
