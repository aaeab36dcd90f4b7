"""What is stored of a connection's lists, as one job loaded it once, and what the job has read since without writing.

A page that changes nothing is not written: the job keeps what the page proves in its memory, under its lease, and
writes it with the next change or when it lets the run go. A page that only adds records waits there for the next ones,
a moment long, so that they are committed together. If the job dies, the next one reads those pages again.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice

from models.journal import ListProblem, Request
from models.messaging.events import RecordChanged
from models.sync.absence import ListSeen, PageSeen, choose_compared
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
from models.sync.records import Known, RecordChanges
from models.sync.since import Marks
from models.sync.sync_run import Parents, RunStatus, SyncList, SyncRun, places_of

most_records = 5_000
"""A connection with more records is not kept in memory: each of its pages is compared, and written, by itself."""
longest_wait = timedelta(milliseconds=250)
"""From the request for the first page with new records until it is written with all that came since."""
longest_silence = timedelta(milliseconds=20)
"""If the next page has not come after this time, they are written while the job waits for it: so the pages of a
provider that is further away are committed one by one, each while the next is under way."""
most_waiting = 500
largest_waiting = 512 << 10
"""Bytes of the pages that wait: parsed they take up to some 12 MB, in each of a worker's eight threads."""


@dataclass(frozen=True, slots=True)
class ListState:
    """A list as it is stored: whether it was ever read to its end, its problem, how many missing records are kept, and
    how far it was read."""

    read_before: bool = False
    problem: str | None = None
    held_back: int | None = None
    marks: Marks = field(default_factory=Marks)


never_read = ListState()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The stored records, by resource and id and without their data, and the stored state of each list: as they are
    once the job's draft is written."""

    records: Mapping[str, Mapping[str, Known]] = field(default_factory=dict)
    lists: Mapping[str, ListState] = field(default_factory=dict)

    def known(self, resource: str, ids: Collection[str]) -> dict[str, Known]:
        """Return the stored records among these ids."""
        stored = self.records.get(resource, {})
        return {external_id: stored[external_id] for external_id in ids if external_id in stored}

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
        return self.lists.get(key, never_read)

    def count(self) -> int:
        """Return how many records are stored."""
        return sum(map(len, self.records.values()))

    def problems(self) -> dict[str, str]:
        """Return the problem of each list that has one."""
        return {key: state.problem for key, state in self.lists.items() if state.problem is not None}

    def is_news(self, note: ListNote) -> bool:
        """Whether a note about a list says anything that its state does not."""
        state = self.state(note.key)
        return _state_after(state, note) != state

    def after(self, decision: StepDecision) -> "Snapshot":
        """Return what is stored once the decision is written."""
        records = dict(self.records)
        if (changes := decision.changes) is not None and (changes.new or changes.changed or changes.moved):
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
        for note in decision.lists:
            lists[note.key] = _state_after(lists.get(note.key, never_read), note)
        for key in decision.forgotten:
            lists.pop(key, None)
        return Snapshot(records, lists)


@dataclass(frozen=True, slots=True)
class Waiting:
    """New records that a job has read and not written.

    since: when the first of their pages was asked for; None if there is none.
    changes: the records, by page, in the order of the pages.
    facts: their events.
    size: the bytes of their pages.
    """

    since: datetime | None = None
    changes: tuple[RecordChanges, ...] = ()
    facts: tuple[RecordChanged, ...] = ()
    size: int = 0

    def may_wait(self, now: datetime) -> bool:
        """Whether nothing of it has to be written yet."""
        if self.since is None:
            return True
        return now - self.since < longest_wait and len(self.facts) <= most_waiting and self.size <= largest_waiting


@dataclass(frozen=True, slots=True)
class Draft:
    """What a job has read and not written.

    log: the requests that it made.
    pages: what this run has seen of the resource that it is at.
    unsaved: those of these pages that are not stored.
    lists: notes about lists.
    waiting: new records.
    """

    log: tuple[Request, ...] = ()
    pages: tuple[PageNote, ...] = ()
    unsaved: tuple[PageNote, ...] = ()
    lists: tuple[ListNote, ...] = ()
    waiting: Waiting = Waiting()

    def pages_of(self, key: str, pass_number: int) -> tuple[PageSeen, ...]:
        """Return the pages of a list in one pass, in their order."""
        seen = [each.seen for each in self.pages if (each.key, each.pass_number) == (key, pass_number)]
        return tuple(sorted(seen, key=lambda page: page.page))


def rows_of_page(rows: StepRows, snapshot: Snapshot, draft: Draft, answer: PageRead) -> StepRows:
    """Return the rows with what the page is decided on."""
    run, sync_list = rows.run, rows.sync_list
    numbers = choose_compared(answer.seen.page) if run.page else ()
    of_list = (sync_list.key, run.pass_number)
    pages = (each for each in reversed(draft.pages) if each.seen.page in numbers)
    earlier = (each.seen for each in pages if (each.key, each.pass_number) == of_list)
    page = StoredPage(
        known=snapshot.known(sync_list.resource.name, answer.seen.ids),
        earlier=tuple(islice(earlier, len(numbers))),
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
        problems=snapshot.problems(),
        orphans={key: living.get(key, set()) for key in run.parents.get(name, Parents()).gone},
    )


def is_quiet(decision: StepDecision) -> bool:
    """Whether a decision only moves the run on, and adds records at most, so that it can be kept in memory."""
    if not decision.goes_on or decision.begins or decision.recovered or decision.credential is not None:
        return False
    if decision.notes or decision.deletion is not None or decision.forgotten:
        return False
    if not all(isinstance(fact, RecordChanged) for fact in decision.facts):
        return False
    changes = decision.changes
    if changes is not None and (changes.changed or changes.moved):
        return False
    moved_on = decision.connection or decision.subject
    if moved_on is decision.subject:
        return True
    return replace(moved_on, sync_due_at=decision.subject.sync_due_at) == decision.subject


def keep(draft: Draft, snapshot: Snapshot, decision: StepDecision, rows: StepRows) -> Draft:
    """Return the draft with what a quiet decision would have written, but for its new records (see `add_new`)."""
    kept = saved(draft, decision, rows)
    return replace(
        kept,
        log=draft.log,
        unsaved=unsaved_after(draft, decision, rows.plan, rows.run),
        lists=(*draft.lists, *(note for note in decision.lists if snapshot.is_news(note))),
        waiting=draft.waiting,
    )


def add_new(draft: Draft, decision: StepDecision, asked_at: datetime, size: int) -> Draft:
    """Return the draft with the new records of a quiet decision on a page of that size, asked for at that time."""
    changes, waiting = decision.changes, draft.waiting
    if changes is None or not changes.new:
        return draft
    facts = tuple(fact for fact in decision.facts if isinstance(fact, RecordChanged))
    more = Waiting(
        since=asked_at if waiting.since is None else waiting.since,
        changes=(*waiting.changes, changes),
        facts=(*waiting.facts, *facts),
        size=waiting.size + size,
    )
    return replace(draft, waiting=more)


def saved(draft: Draft, decision: StepDecision, rows: StepRows) -> Draft:
    """Return the draft after its content was written with a decision: what the run has seen of its resource."""
    if decision.run is None or not stays_in_resource(rows.plan, rows.run, decision.run):
        return Draft()
    pages = _but(draft.pages, decision)
    return Draft(pages=pages if decision.page is None else (*pages, decision.page))


def unsaved_after(
    draft: Draft, decision: StepDecision, plan: Sequence[SyncList], before: SyncRun
) -> tuple[PageNote, ...]:
    """Return the pages that are not stored, and that the run still needs once the decision was made.

    They are needed while the run is at their resource.
    """
    if decision.run is None or not stays_in_resource(plan, before, decision.run):
        return ()
    unsaved = _but(draft.unsaved, decision)
    return unsaved if decision.page is None else (*unsaved, decision.page)


def _but(pages: tuple[PageNote, ...], decision: StepDecision) -> tuple[PageNote, ...]:
    """Return the pages without those of lists that turned out unreadable."""
    skipped = {note.key for note in decision.lists if isinstance(note, ListSkipped)}
    return tuple(page for page in pages if page.key not in skipped)


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
