"""Write what a step of a sync decided: records, progress, events and notes in one transaction."""

import structlog

from models.journal import Verb
from models.provider import Provider
from models.store import Transaction, credentials
from models.store.connections import saving
from models.store.statement import Writing
from models.store.sync_runs import noting, writing
from models.sync.decision import ListNote, ListRead, PageNote, StepDecision
from models.sync.snapshot import is_news, stays_in_resource
from models.sync.sync_run import RunStatus, SyncRun, end
from worker.sync.slice import Slice
from worker.tokens.end_connection import end_connection
from worker.tokens.refusals import begin_hold, note_recovery

warned_of = (
    Verb.reading_unproven,
    Verb.deletion_held_back,
    Verb.list_failing,
    Verb.list_recovered,
    Verb.sync_failed,
    Verb.sync_throttled,
)


def apply_step(tx: Transaction, decision: StepDecision, provider: Provider, own: Slice | None = None) -> None:
    """Write the decision in the transaction that locked its rows; the only writer of a sync.

    `own` is the slice of the job, whose draft is written with it; None before there is one. A run that is not stored
    is, in the state that the decision leaves it in.
    """
    subject, at = decision.subject, decision.at
    if own is not None:
        _save_draft(tx, decision, own)
    if decision.recovered:
        note_recovery(tx, subject, tx.refusals.get(subject.id), provider, at)
    if decision.ended is not None and decision.connection is not None:
        transition = (decision.connection, decision.facts)
        end_connection(tx, transition, decision.credential, decision.ended, at, provider.path_prefix)
        if own is not None and not own.is_stored:
            tx.runs.add(end(own.run, decision.ended))
    else:
        _save(tx, decision, own)
    for note in decision.notes:
        tx.journal.decide(subject.id, at, note.verb, **note.evidence)
        if note.verb in warned_of:
            structlog.get_logger("sync").warning(note.verb, **note.evidence)
    if decision.refusal is not None:
        tx.refusals.put(decision.refusal)
        if decision.hold is not None:
            begin_hold(tx, decision.hold, provider, at)


def _save_draft(tx: Transaction, decision: StepDecision, own: Slice) -> None:
    """Write what the job read before this decision: requests, lists, and the pages that its run still needs."""
    tx.journal.log(own.draft.log)
    for note in own.draft.lists:
        _note_list(tx, decision, note)
    pages = _unsaved_pages(decision, own)
    if decision.run is not None and pages and not own.is_stored:
        # On SQLite a page refers to its run.
        tx.runs.add(decision.run)
    for page in pages:
        tx.runs.note_page(own.run.id, page)


def _unsaved_pages(decision: StepDecision, own: Slice) -> tuple[PageNote, ...]:
    """Return the pages in the job's memory that its run needs after this decision."""
    if decision.run is None or not stays_in_resource(own.plan, own.run, decision.run):
        return ()
    return own.draft.unsaved


def _save(tx: Transaction, decision: StepDecision, own: Slice | None) -> None:
    subject, at = decision.subject, decision.at
    if decision.changes is not None:
        tx.records.write(subject.id, decision.changes, at)
    if decision.deletion is not None:
        tx.records.mark_deleted(subject.id, decision.deletion.resource, decision.deletion.ids, at)
    for note in decision.lists:
        if own is None or own.snapshot is None or is_news(own.snapshot, own.draft, note):
            _note_list(tx, decision, note)
    if decision.forgotten:
        tx.records.forget_lists(subject.id, decision.forgotten)
    is_new = decision.begins if own is None else not (own.is_stored or _unsaved_pages(decision, own))
    together: list[Writing] = [] if decision.run is None else [writing(decision.run, is_new)]
    if decision.run is not None and own is not None:
        together += _save_pages(tx, decision.page, decision.run, own)
    if decision.credential is not None:
        together.append(credentials.saving(decision.credential, has_new_tokens=False))
    if decision.connection is not None:
        together.append(saving(decision.connection, subject.generation, decision.claims))
    for statement, values in together:
        tx.appends.write(statement, **values)
    tx.outbox.append(subject.about, decision.facts, at)


def _save_pages(tx: Transaction, page: PageNote | None, run: SyncRun, own: Slice) -> list[Writing]:
    """Keep the page as evidence while the run is at its resource; a run that ends needs no pages any more."""
    if own.has_pages and run.status is not RunStatus.running:
        tx.runs.forget_pages(run.id)
    if page is None or not stays_in_resource(own.plan, own.run, run):
        return []
    return [noting(run.id, page)]


def _note_list(tx: Transaction, decision: StepDecision, note: ListNote) -> None:
    connection_id = decision.subject.id
    if isinstance(note, ListRead):
        tx.records.note_read(connection_id, note, decision.at)
        return
    tx.records.note_problem(connection_id, note.key, note.problem)
    if decision.run is not None:
        tx.runs.drop_pages(decision.run.id, note.key)
