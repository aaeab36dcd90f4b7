"""Write what a step of a sync decided: records, progress, events and notes in one transaction."""

import structlog

from models.journal import Verb
from models.provider import Provider
from models.store import Transaction
from models.sync.decision import ListNote, ListRead, StepDecision
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


def apply_step(tx: Transaction, decision: StepDecision, provider: Provider) -> None:
    """Write the decision in the transaction that locked its rows; the only writer of a sync."""
    subject, at = decision.subject, decision.at
    if decision.recovered:
        note_recovery(tx, subject, provider, at)
    if decision.ended is not None and decision.connection is not None:
        transition = (decision.connection, decision.facts)
        end_connection(tx, transition, decision.credential, decision.ended, at, provider.path_prefix)
    else:
        _save(tx, decision)
    for note in decision.notes:
        tx.journal.decide(subject.id, at, note.verb, **note.evidence)
        if note.verb in warned_of:
            structlog.get_logger("sync").warning(note.verb, **note.evidence)
    if decision.refusal is not None:
        tx.refusals.put(decision.refusal)
        if decision.hold is not None:
            begin_hold(tx, decision.hold, provider, at)


def _save(tx: Transaction, decision: StepDecision) -> None:
    subject, at = decision.subject, decision.at
    if decision.changes is not None:
        tx.records.write(subject.id, decision.changes, at)
    if decision.deletion is not None:
        tx.records.mark_deleted(subject.id, decision.deletion.resource, decision.deletion.ids, at)
    for note in decision.lists:
        _note_list(tx, decision, note)
    _save_run(tx, decision)
    if decision.credential is not None:
        tx.credentials.put(decision.credential)
    if decision.connection is not None:
        tx.connections.save(decision.connection, subject.generation, decision.claims)
    tx.outbox.append(subject.about, decision.facts, at)


def _save_run(tx: Transaction, decision: StepDecision) -> None:
    run, page = decision.run, decision.page
    if run is None:
        return
    if page is not None:
        tx.runs.note_page(run.id, page.key, page.pass_number, page.seen)
    if decision.begins:
        tx.runs.add(run)
    else:
        tx.runs.save(run)


def _note_list(tx: Transaction, decision: StepDecision, note: ListNote) -> None:
    connection_id = decision.subject.id
    if isinstance(note, ListRead):
        tx.records.note_read(connection_id, note.key, decision.at, note.problem, note.held_back)
        return
    tx.records.note_problem(connection_id, note.key, note.problem)
    if decision.run is not None:
        tx.runs.drop_pages(decision.run.id, note.key)
