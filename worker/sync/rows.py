"""Load what a step of a sync decides on."""

from dataclasses import replace
from datetime import timedelta

from models.oauth.connection import Status
from models.provider import Provider
from models.store import Transaction
from models.sync.absence import ListSeen
from models.sync.decision import NothingLeft, PageRead, StepRows, StoredPage, StoredResource
from models.sync.step import StepAnswer, may_end_list
from models.sync.sync_run import SyncRun, places_of
from worker.sync.slice import Slice


def load_rows(
    tx: Transaction, own: Slice, answer: StepAnswer | None, provider: Provider, interval: timedelta
) -> StepRows | None:
    """Lock the connection and load what the answer needs; None if the run is no longer this job's."""
    connection = tx.connections.lock(own.connection.id)
    run = tx.runs.running(own.connection.id)
    # Race: during the request the connection ended, or the lease ran out and another job took the run over.
    if connection is None or connection.status is not Status.active or run is None or not own.has(run):
        return None
    rows = StepRows(
        connection=connection,
        credential=tx.credentials.get(connection.id),
        run=run,
        plan=own.plan,
        generation=own.connection.generation,
        provider=provider,
        interval=interval,
    )
    if answer is None:
        return rows
    if isinstance(answer, NothingLeft):
        return replace(rows, problems=tx.records.resource_problems(connection.id))
    if isinstance(answer, PageRead):
        rows = replace(rows, page=_load_page(tx, rows, answer))
    return replace(rows, resource=_load_resource(tx, rows, answer)) if may_end_list(rows, answer) else rows


def _load_page(tx: Transaction, rows: StepRows, answer: PageRead) -> StoredPage:
    connection_id, run, key = rows.connection.id, rows.run, rows.sync_list.key
    name = rows.sync_list.resource.name
    is_look = run.page == 0
    return StoredPage(
        known=tx.records.known(connection_id, name, answer.seen.ids),
        previous=None if is_look else tx.runs.page_of(run.id, key, run.pass_number, answer.seen.page - 1),
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
    return replace(
        resource,
        lists=lists,
        living={key: tx.records.living_ids(connection_id, name, key) for key in keys},
        held_back={key: tx.records.held_back(connection_id, key) or 0 for key in keys},
    )


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
