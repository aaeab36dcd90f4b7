"""What a page changes: its records and their events, and where the run continues."""

from collections import Counter
from dataclasses import replace
from datetime import datetime

from models.account import read_account
from models.api_response import Page
from models.journal import Note, Problem, Verb
from models.messaging.events import Fact, RecordChanged
from models.oauth.connection import Connection, restore_access
from models.oauth.credential import accept_access
from models.paging.json_path import look_up
from models.provider import Provider, Resource
from models.sync.absence import PageSeen, ends_list, is_quiet
from models.sync.decision import ListRead, PageNote, PageRead, StepDecision, StepRows, go_on
from models.sync.list_end import end_list
from models.sync.records import Changed, compare, plan_writes, read_item
from models.sync.refusal import is_recovered
from models.sync.since import newest_of
from models.sync.sync_run import SyncRun, add_counts


def parse_page(page: Page, resource: Resource, provider: Provider, parent: str | None = None) -> PageRead:
    """Return the page's records, and how many of its elements name no record; `parent` is the one whose list it is."""
    within = parent if resource.id_scope == "parent" else None
    read = [
        read_item(raw, resource.id, resource.volatile, provider.null_is_absent, page.is_clean, within)
        for raw in page.elements
    ]
    items = tuple(item for item in read if item is not None)
    ids = tuple(item.external_id for item in items)
    # A volatile field is no part of an item, and may well be the one by which the list is filtered.
    values = (look_up(raw, resource.since_field) for raw in page.elements) if resource.since_field else ()
    seen = PageSeen(page.number, page.total, page.last, ids, len(read) - len(items), newest_of(values))
    if resource.path != provider.account_path:
        return PageRead(items, seen, cursor=page.cursor, size=page.size)
    account = read_account(provider, page)
    return PageRead(items, seen, None if account is None else account.id, size=page.size)


def keep_page(rows: StepRows, answer: PageRead, now: datetime) -> StepDecision:
    """Write what the page changed, and continue with the next page, list or resource.

    If the account was limited, the first list that answers ends that.
    """
    sync_list, stored = rows.sync_list, rows.page
    changed = compare(stored.known, answer.items, rows.provider.null_is_absent)
    connection, facts, notes = _accept(rows)
    credential = rows.credential
    was_refused = credential is not None and credential.refused_generation is not None
    decision = StepDecision(
        subject=rows.connection,
        at=now,
        connection=connection,
        credential=accept_access(credential) if credential is not None and was_refused else None,
        changes=plan_writes(sync_list.resource.name, sync_list.key, stored.known, changed),
        page=PageNote(sync_list.key, rows.run.pass_number, answer.seen) if rows.run.page else None,
        facts=(*facts, *_facts(rows, changed)),
        notes=notes,
        recovered=is_recovered(rows),
    )
    run = _count(rows.run, sync_list.resource.name, answer, changed)
    if run.page == 0:
        # The page that moves records here makes this list longer.
        moved = sum(not before.deleted and before.source != sync_list.key for before in stored.known.values())
        if not is_quiet(answer.seen, len(changed), stored.living + moved):
            return go_on(decision, replace(run, page=1, cursor=None))
        return end_list(rows, replace(decision, lists=(ListRead(sync_list.key),)), run)
    if ends_list(answer.seen, stored.earlier, rows.provider.longest_list, answer.cursor is not None):
        return end_list(rows, decision, run)
    return go_on(decision, replace(run, page=run.page + 1, cursor=answer.cursor))


def _accept(rows: StepRows) -> tuple[Connection, tuple[Fact, ...], tuple[Note, ...]]:
    """Return the connection whose access token the API accepts, and if the page is not the account's, whose account."""
    connection, facts = rows.connection, tuple[Fact, ...]()
    if not rows.is_account(rows.sync_list) or len(rows.plan) == 1:
        connection, facts = restore_access(connection)
    if connection.problem == Problem.throttled:
        connection = replace(connection, problem=None)
    notes: tuple[Note, ...] = ()
    if connection.problem == Problem.list_failing:
        connection = replace(connection, problem=None)
        notes = (Note(Verb.list_recovered, {"list": rows.sync_list.label}),)
    if is_recovered(rows):
        connection = replace(connection, problem=None)
    return connection, facts, notes


def _facts(rows: StepRows, changed: list[Changed]) -> list[RecordChanged]:
    name, initial = rows.sync_list.resource.name, not rows.page.read_before
    return [RecordChanged(each.kind, name, each.item.external_id, each.fields, initial) for each in changed]


def _count(run: SyncRun, resource: str, answer: PageRead, changed: list[Changed]) -> SyncRun:
    """Return the run with what the page counts; an answer ends a row of failures."""
    tally = Counter[str](each.kind for each in changed)
    tally["unchanged"] = len(answer.items) - len(changed)
    return replace(run, failures=0, counts=add_counts(run.counts, resource, tally))
