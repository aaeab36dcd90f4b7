"""Write what a step of a sync decided: records, progress, events and notes in one transaction."""

from datetime import datetime

import structlog

from models.journal import Verb
from models.provider import Provider
from models.store import Transaction, credentials
from models.store.connections import saving
from models.store.statement import Writing
from models.store.sync_runs import writing
from models.sync.decision import ListNote, ListRead, ListSkipped, StepDecision
from models.sync.snapshot import unsaved_after
from models.sync.sync_run import RunStatus, SyncRun
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


def write_draft(tx: Transaction, own: Slice, at: datetime) -> None:
    """Write the lists and new records that the job read before, in the transaction that locked its run.

    What is stored of them can be loaded then. Their events and the pages that the run still needs follow with the
    decision of this transaction (see `apply_step`).
    """
    for changes in own.draft.waiting.changes:
        tx.records.write(own.connection.id, changes, at)
    for note in own.draft.lists:
        if isinstance(note, ListSkipped) and own.has_pages:
            tx.runs.drop_pages(own.run.id, note.key)
        _note_list(tx, own.run, note, at)


def apply_step(tx: Transaction, decision: StepDecision, provider: Provider, own: Slice | None = None) -> None:
    """Write the decision in the transaction that locked its rows; the only writer of a sync.

    `own` is the slice of the job, whose draft was written before it; None before there is one. A run that is not stored
    is, in the state that the decision leaves it in.
    """
    subject, at = decision.subject, decision.at
    waiting = () if own is None else own.draft.waiting.facts
    if decision.recovered:
        note_recovery(tx, subject, tx.refusals.get(subject.id), provider, at)
    if decision.ended is not None and decision.connection is not None:
        tx.outbox.append(subject.about, waiting, at)
        if own is not None:
            # It ends with the connection, with the counts of all that was read.
            tx.runs.write(own.run, is_new=not own.is_stored)
        transition = (decision.connection, decision.facts)
        end_connection(tx, transition, decision.credential, decision.ended, at, provider.path_prefix)
    else:
        _save(tx, decision, own)
        tx.outbox.append(subject.about, (*waiting, *decision.facts), at)
    for note in decision.notes:
        tx.journal.decide(subject.id, at, note.verb, **note.evidence)
        if note.verb in warned_of:
            structlog.get_logger("sync").warning(note.verb, **note.evidence)
    if decision.refusal is not None:
        tx.refusals.put(decision.refusal)
        if decision.hold is not None:
            begin_hold(tx, decision.hold, provider, at)


def _save(tx: Transaction, decision: StepDecision, own: Slice | None) -> None:
    subject, at = decision.subject, decision.at
    if decision.changes is not None:
        tx.records.write(subject.id, decision.changes, at)
    if decision.deletion is not None:
        tx.records.mark_deleted(subject.id, decision.deletion.resource, decision.deletion.ids, at)
    together: list[Writing] = []
    if decision.run is not None:
        together += _save_run(tx, decision, decision.run, own)
    if decision.forgotten:
        tx.records.forget_lists(subject.id, decision.forgotten)
    if decision.credential is not None:
        together.append(credentials.saving(decision.credential, has_new_tokens=False))
    if decision.connection is not None:
        together.append(saving(decision.connection, subject.generation, decision.claims))
    for statement, values in together:
        tx.appends.write(statement, **values)


def _save_run(tx: Transaction, decision: StepDecision, run: SyncRun, own: Slice | None) -> list[Writing]:
    """Note what the run found of its lists; return the statements that save it, and the pages that it still needs."""
    for note in decision.lists:
        if isinstance(note, ListSkipped) and (own is None or own.has_pages):
            # If its problem is no news, what was read of it proves nothing all the same.
            tx.runs.drop_pages(run.id, note.key)
        if own is None or own.snapshot is None or own.snapshot.is_news(note):
            _note_list(tx, run, note, decision.at)
    if own is None:
        return [writing(run, decision.begins)]
    if own.has_pages and run.status is not RunStatus.running:
        tx.runs.forget_pages(run.id)
    # On SQLite a page refers to its run, which is written before it.
    return [
        writing(run, not own.is_stored),
        *tx.runs.noting(run.id, unsaved_after(own.draft, decision, own.plan, own.run)),
    ]


def _note_list(tx: Transaction, run: SyncRun, note: ListNote, at: datetime) -> None:
    if isinstance(note, ListRead):
        tx.records.note_read(run.connection_id, note, at)
        return
    tx.records.note_problem(run.connection_id, note.key, note.problem)
