"""Load what a step of a sync decides on."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from models.oauth.connection import Status
from models.provider import Provider
from models.store import Transaction
from models.sync.absence import ListSeen, choose_compared
from models.sync.decision import (
    NothingLeft,
    PageRead,
    ParentsNeeded,
    StepDecision,
    StepRows,
    StoredPage,
    StoredParents,
    StoredResource,
)
from models.sync.since import choose_since, is_incremental
from models.sync.snapshot import Draft, Snapshot, resource_of, rows_of_page
from models.sync.step import StepAnswer, may_end_list
from models.sync.sync_run import Parents, SyncRun, name_list, places_of, plan_lists
from worker.sync.slice import Slice


def choose_incremental(tx: Transaction, decision: StepDecision, provider: Provider) -> StepDecision:
    """Return the decision that may begin a run with what that run reads incrementally.

    It is chosen once, so that each job that continues the run reads a list as it was begun.
    """
    run = decision.run
    names = {resource.name for resource in provider.resources if resource.since_parameter}
    if run is None or not decision.begins or run.depth != "usual" or not names:
        return decision
    connection_id = decision.subject.id
    plan = plan_lists(provider, decision.subject.team_ids, run.depth)
    stored, living = tx.records.marks(connection_id), tx.records.count_by_list(connection_id, names)
    return replace(decision, run=replace(run, since=choose_since(plan, stored, living, provider, run.started_at)))


def load_slice(tx: Transaction, own: Slice, resumed: bool, most: int) -> Callable[[], Slice]:
    """Ask for what the slice needs to keep a page that changes nothing in memory; return what gives the slice with it,
    if that is at most `most` records, after the transaction."""
    snapshot = tx.records.snapshot(own.connection.id, {each.resource.name for each in own.plan}, most)
    pages = tx.runs.pages(own.run.id) if resumed else None

    def load() -> Slice:
        loaded = replace(own, snapshot=snapshot(), has_pages=resumed)
        if loaded.snapshot is None or pages is None:
            return loaded
        places = places_of(own.plan, own.run.place) if own.run.place < len(own.plan) else ()
        names = {own.plan[place].key for place in places}
        return replace(loaded, draft=Draft(pages=tuple(page for page in pages() if page.key in names)))

    return load


def rows_in_memory(own: Slice, provider: Provider, interval: timedelta) -> StepRows:
    """Return what a step decides on as this job saw it last."""
    return StepRows(
        connection=own.connection,
        credential=own.credential,
        run=own.run,
        plan=own.plan,
        generation=own.generation,
        provider=provider,
        interval=interval,
    )


def add_page(rows: StepRows, own: Slice, snapshot: Snapshot, answer: PageRead) -> StepRows:
    """Return the rows with what is stored about a page, by the job's snapshot and draft."""
    rows = rows_of_page(rows, snapshot, own.draft, answer)
    if may_end_list(rows, answer):
        rows = replace(rows, resource=resource_of(rows, snapshot, own.draft))
    return rows


def lock_rows(tx: Transaction, own: Slice, provider: Provider, interval: timedelta) -> StepRows | None:
    """Lock the connection and return the rows as they are now; None if the run is no longer this job's.

    Its position is the job's own: the stored one is as old as the last step that was written.
    """
    found = tx.runs.lock_with_pair(own.connection.id)
    connection = found.connection
    # Race: during the request the connection ended, or the lease ran out and another job took the run over.
    if connection is None or connection.status is not Status.active or not own.has(found):
        return None
    return replace(rows_in_memory(own, provider, interval), connection=connection, credential=found.credential)


def load_stored(tx: Transaction, rows: StepRows, own: Slice, answer: StepAnswer) -> StepRows:
    """Return the locked rows with what is stored about the answer, the job's draft included."""
    connection = rows.connection
    if isinstance(answer, NothingLeft):
        if own.snapshot is not None:
            return replace(rows, problems=own.snapshot.problems())
        return replace(rows, problems=tx.records.resource_problems(connection.id))
    if isinstance(answer, ParentsNeeded):
        return _add_parents(tx, rows)
    if own.snapshot is not None:
        return _add_stored(tx, rows, own, own.snapshot, answer)
    if isinstance(answer, PageRead):
        rows = replace(rows, page=_load_page(tx, rows, answer))
    return replace(rows, resource=_load_resource(tx, rows, answer)) if may_end_list(rows, answer) else rows


def _add_stored(tx: Transaction, rows: StepRows, own: Slice, snapshot: Snapshot, answer: StepAnswer) -> StepRows:
    """Return the rows with what the job knows; what is stored of a page's records is loaded with its data."""
    if isinstance(answer, PageRead):
        rows = add_page(rows, own, snapshot, answer)
        ids = list(rows.page.known)
        known = tx.records.known(rows.connection.id, rows.sync_list.resource.name, ids) if ids else {}
        return replace(rows, page=replace(rows.page, known=known))
    if may_end_list(rows, answer):
        return replace(rows, resource=resource_of(rows, snapshot, own.draft))
    return rows


def _add_parents(tx: Transaction, rows: StepRows) -> StepRows:
    """Return the rows with the resource's parents, which were all read or skipped before, and with its own lists."""
    connection_id, resource = rows.connection.id, rows.sync_list.resource
    ids = tuple(sorted(tx.records.all_living(connection_id, resource.parent)))
    known = tx.records.known(connection_id, resource.parent, ids[: resource.most_parents])
    states = {name: problem for name, (_, problem) in tx.records.marks(connection_id).items()}
    own = {*tx.records.count_by_list(connection_id, {resource.name})}
    own |= {name for name in states if name.startswith(name_list(resource, ""))}
    problems = {name: problem for name, problem in states.items() if problem is not None}
    stored = StoredParents(
        ids=ids,
        records={each: found.data for each, found in known.items()},
        # A parent that was never found is not deleted: its list may not have been read under this name.
        lists=own if _is_known(tx, rows, resource.parent) else (),
        problems=problems,
    )
    living = {name_list(resource, each) for each in ids}
    orphans = {key: tx.records.living_ids(connection_id, resource.name, key) for key in {*stored.lists} - living}
    stored_resource = StoredResource(next_living=_count_next(tx, rows), problems=problems, orphans=orphans)
    return replace(rows, parents=stored, resource=stored_resource)


def _is_known(tx: Transaction, rows: StepRows, name: str) -> bool:
    """Whether any list of a resource was read to its end before."""
    keys = [each.key for each in rows.plan if each.resource.name == name]
    return any(tx.records.was_read_before(rows.connection.id, key) for key in keys)


def _load_page(tx: Transaction, rows: StepRows, answer: PageRead) -> StoredPage:
    connection_id, run, key = rows.connection.id, rows.run, rows.sync_list.key
    name = rows.sync_list.resource.name
    is_look = run.page == 0
    numbers = () if is_look else choose_compared(answer.seen.page)
    return StoredPage(
        known=tx.records.known(connection_id, name, answer.seen.ids),
        earlier=tx.runs.pages_of(run.id, key, run.pass_number, numbers) if numbers else (),
        living=tx.records.count_living(connection_id, name, key) if is_look else 0,
        read_before=tx.records.was_read_before(connection_id, key),
    )


def _load_resource(tx: Transaction, rows: StepRows, answer: StepAnswer) -> StoredResource:
    """Load the evidence about all lists of the resource if the current one is its last, and the next list's length."""
    run, places = rows.run, places_of(rows.plan, rows.run.place)
    resource = StoredResource(next_living=_count_next(tx, rows))
    if run.place + 1 in places:
        return resource
    lists = tuple(_load_list(tx, run, rows.plan[place].key) for place in places)
    keys = [each.key for each in lists if each.pages]
    if isinstance(answer, PageRead) and rows.sync_list.key not in keys:
        keys.append(rows.sync_list.key)
    connection_id, name = rows.connection.id, rows.sync_list.resource.name
    if rows.sync_list.resource.since_field:
        resource = replace(resource, marks={key: marks for key, (marks, _) in tx.records.marks(connection_id).items()})
    if is_incremental(rows.plan, run.place, run.since):
        return replace(resource, lists=lists)
    return replace(
        resource,
        lists=lists,
        living={key: tx.records.living_ids(connection_id, name, key) for key in keys},
        held_back={key: tx.records.held_back(connection_id, key) or 0 for key in keys},
        problems=tx.records.resource_problems(connection_id) if _may_be_elsewhere(rows, len(places)) else {},
        orphans={key: tx.records.living_ids(connection_id, name, key) for key in run.parents.get(name, Parents()).gone},
    )


def _may_be_elsewhere(rows: StepRows, lists: int) -> bool:
    """Whether the resource that the run is at has several lists, or may have some that the run does not read."""
    resource = rows.sync_list.resource
    return resource.id_scope != "parent" and (lists > 1 or bool(resource.parent))


def _load_list(tx: Transaction, run: SyncRun, key: str) -> ListSeen:
    return ListSeen(
        key, tx.runs.pages_of(run.id, key, run.pass_number), tx.runs.pages_of(run.id, key, run.pass_number - 1)
    )


def _count_next(tx: Transaction, rows: StepRows) -> int:
    following = rows.run.place + 1
    if following >= len(rows.plan) or not rows.plan[following].resource.peek:
        return 0
    sync_list = rows.plan[following]
    return tx.records.count_living(rows.connection.id, sync_list.resource.name, sync_list.key)
