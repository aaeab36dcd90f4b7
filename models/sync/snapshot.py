"""What is stored of a connection's lists, as one job loaded it once, and what the job has read since without writing.

A page that changes nothing is not written: the job keeps what the page proves in its memory, under its lease, and
writes it with the next change or when it lets the run go. If the job dies, the next one reads those pages again.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from models.journal import ListProblem, Request
from models.sync.absence import ListSeen, PageSeen
from models.sync.decision import (
    ListNote,
    ListRead,
    ListSkipped,
    PageNote,
    PageRead,
    StepDecision,
    StepRows,
    StoredPage,
    StoredResource,
)
from models.sync.records import Known
from models.sync.since import Marks
from models.sync.sync_run import Parents, RunStatus, SyncList, SyncRun, places_of

most_records = 5_000
"""A connection with more records is not loaded: each of its pages is compared, and written, by itself."""


@dataclass(frozen=True, slots=True)
class ListState:
    """A list as it is stored: whether it was ever read to its end, its problem, how many missing records are kept, and
    how far it was read."""

    read_before: bool = False
    problem: str | None = None
    held_back: int | None = None
    marks: Marks = field(default_factory=Marks)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The stored records, by resource and id and without their data; and the stored state of each list."""

    records: Mapping[str, Mapping[str, Known]] = field(default_factory=dict)
    lists: Mapping[str, ListState] = field(default_factory=dict)

    def known(self, resource: str, ids: Collection[str]) -> dict[str, Known]:
        """Return the stored records among these ids."""
        stored = self.records.get(resource, {})
        return {external_id: stored[external_id] for external_id in ids if external_id in stored}

    def has_all(self, resource: str, ids: Collection[str]) -> bool:
        """Return whether each of these records is stored."""
        return self.records.get(resource, {}).keys() >= set(ids)

    def living(self, sync_list: SyncList) -> set[str]:
        """Return the ids of a list's records that are not deleted."""
        stored = self.records.get(sync_list.resource.name, {})
        return {
            external_id for external_id, known in stored.items() if not known.deleted and known.source == sync_list.key
        }

    def living_by_list(self, resource: str) -> dict[str, set[str]]:
        """Return the ids of a resource's records that are not deleted, by list."""
        found: dict[str, set[str]] = {}
        for external_id, known in self.records.get(resource, {}).items():
            if not known.deleted:
                found.setdefault(known.source, set()).add(external_id)
        return found

    def state(self, key: str) -> ListState:
        """Return the state of a list; of one that has none the state of a list that was never read."""
        return self.lists.get(key, ListState())

    def after(self, decision: StepDecision, draft: "Draft") -> "Snapshot":
        """Return what is stored once the decision is written, and the draft with it."""
        records = dict(self.records)
        if (changes := decision.changes) is not None:
            own = dict(records.get(changes.resource, {}))
            own |= {external_id: replace(own[external_id], source=changes.source) for external_id in changes.moved}
            own |= {item.external_id: Known(item.content_hash, {}, False, changes.source) for item in changes.new}
            own |= {
                item.external_id: Known(item.content_hash, {}, False, own[item.external_id].source)
                for item in changes.changed
            }
            records[changes.resource] = own
        if (deletion := decision.deletion) is not None:
            own = dict(records.get(deletion.resource, {}))
            own |= {external_id: replace(own[external_id], deleted=True) for external_id in deletion.ids}
            records[deletion.resource] = own
        lists = dict(self.lists)
        for note in (*draft.lists, *decision.lists):
            lists[note.key] = _state_after(lists.get(note.key, ListState()), note)
        for key in decision.forgotten:
            lists.pop(key, None)
        return Snapshot(records, lists)


@dataclass(frozen=True, slots=True)
class Draft:
    """What a job has read and not written.

    log: the requests that it made.
    pages: what this run has seen of the resource that it is at.
    unsaved: those of these pages that are not stored.
    lists: notes about lists.
    """

    log: tuple[Request, ...] = ()
    pages: tuple[PageNote, ...] = ()
    unsaved: tuple[PageNote, ...] = ()
    lists: tuple[ListNote, ...] = ()

    def pages_of(self, key: str, pass_number: int) -> tuple[PageSeen, ...]:
        """Return the pages of a list in one pass, in their order."""
        seen = [each.seen for each in self.pages if (each.key, each.pass_number) == (key, pass_number)]
        return tuple(sorted(seen, key=lambda page: page.page))


def rows_of_page(rows: StepRows, snapshot: Snapshot, draft: Draft, answer: PageRead) -> StepRows:
    """Return the rows with what the page is decided on."""
    run, sync_list = rows.run, rows.sync_list
    before = (page for page in draft.pages_of(sync_list.key, run.pass_number) if page.page == answer.seen.page - 1)
    page = StoredPage(
        known=snapshot.known(sync_list.resource.name, answer.seen.ids),
        previous=next(before, None) if run.page else None,
        living=len(snapshot.living(sync_list)) if not run.page else 0,
        read_before=snapshot.state(sync_list.key).read_before,
    )
    return replace(rows, page=page)


def resource_of(rows: StepRows, snapshot: Snapshot, draft: Draft) -> StoredResource:
    """Return what the end of a list is decided on: the evidence about all lists of the resource if it is the last."""
    run, plan = rows.run, rows.plan
    following = plan[run.place + 1] if run.place + 1 < len(plan) else None
    peeks = following is not None and bool(following.resource.peek)
    next_living = len(snapshot.living(following)) if following is not None and peeks else 0
    places, name = places_of(plan, run.place), rows.sync_list.resource.name
    if run.place + 1 in places:
        return StoredResource(next_living=next_living)
    lists, living = [plan[place] for place in places], snapshot.living_by_list(name)
    return StoredResource(
        lists=tuple(
            ListSeen(each.key, draft.pages_of(each.key, run.pass_number), draft.pages_of(each.key, run.pass_number - 1))
            for each in lists
        ),
        living={each.key: living.get(each.key, set()) for each in lists},
        held_back={each.key: snapshot.state(each.key).held_back or 0 for each in lists},
        next_living=next_living,
        marks={each.key: snapshot.state(each.key).marks for each in lists},
        orphans={key: living.get(key, set()) for key in run.parents.get(name, Parents()).gone},
    )


def is_quiet(decision: StepDecision) -> bool:
    """Whether a decision only moves the run on, so that it can be kept in memory."""
    if not decision.goes_on or decision.begins or decision.recovered or decision.credential is not None:
        return False
    if decision.facts or decision.notes or decision.deletion is not None or decision.forgotten:
        return False
    changes = decision.changes
    if changes is not None and (changes.new or changes.changed or changes.moved):
        return False
    moved_on = decision.connection or decision.subject
    if moved_on is decision.subject:
        return True
    return replace(moved_on, sync_due_at=decision.subject.sync_due_at) == decision.subject


def keep(draft: Draft, snapshot: Snapshot, decision: StepDecision, rows: StepRows) -> Draft:
    """Return the draft with what a quiet decision would have written."""
    kept = saved(draft, decision, rows)
    pages = () if decision.page is None or not kept.pages else (decision.page,)
    return replace(
        kept,
        log=draft.log,
        unsaved=(*_but(draft.unsaved, decision), *pages) if kept.pages else (),
        lists=(*draft.lists, *(note for note in decision.lists if is_news(snapshot, draft, note))),
    )


def saved(draft: Draft, decision: StepDecision, rows: StepRows) -> Draft:
    """Return the draft after its content was written with a decision: what the run has seen of its resource."""
    if decision.run is None or not stays_in_resource(rows.plan, rows.run, decision.run):
        return Draft()
    pages = _but(draft.pages, decision)
    return Draft(pages=pages if decision.page is None else (*pages, decision.page))


def _but(pages: tuple[PageNote, ...], decision: StepDecision) -> tuple[PageNote, ...]:
    """Return the pages without those of lists that turned out unreadable."""
    skipped = {note.key for note in decision.lists if isinstance(note, ListSkipped)}
    return tuple(page for page in pages if page.key not in skipped)


def problems_of(snapshot: Snapshot, draft: Draft) -> dict[str, str]:
    """Return the problem of each list that has one, once the draft is written."""
    lists = dict(snapshot.lists) | {note.key: _state_after(snapshot.state(note.key), note) for note in draft.lists}
    return {key: state.problem for key, state in lists.items() if state.problem is not None}


def is_news(snapshot: Snapshot, draft: Draft, note: ListNote) -> bool:
    """Whether a note about a list says anything that is neither stored nor in the draft."""
    state = snapshot.state(note.key)
    for earlier in draft.lists:
        state = _state_after(state, earlier) if earlier.key == note.key else state
    return _state_after(state, note) != state


def stays_in_resource(plan: Sequence[SyncList], before: SyncRun, after: SyncRun) -> bool:
    """Whether the run goes on with a list of the resource that it was at: what it has seen of it still counts."""
    if after.status is not RunStatus.running or before.place >= len(plan):
        return False
    return after.place in places_of(plan, before.place)


def _state_after(state: ListState, note: ListNote) -> ListState:
    match note:
        case ListRead(_, problem, held_back, marks):
            return ListState(True, _text(problem), held_back, state.marks if marks is None else marks)
        case ListSkipped(_, problem):
            return replace(state, problem=_text(problem))


def _text(problem: ListProblem | None) -> str | None:
    return None if problem is None else problem.value
