"""What a 401 does to a connection that nothing refreshes: it ends, or its tokens are kept for now (see `hold.py`)."""

from dataclasses import replace
from typing import assert_never

from models.journal import Note, Problem, Verb
from models.oauth.hold import EndNow, HoldBack, Judgement, Refusal, WaitUntil, open_hold
from models.sync.decision import StepDecision, StepRows, park
from models.sync.sync_run import SyncRun


def carry_out(
    judgement: Judgement, ended: StepDecision, refusal: Refusal, earlier: Refusal | None, run: SyncRun
) -> StepDecision:
    """Return what a judged refusal does: it ends the connection as `ended`, or its token is kept.

    A token is kept until the run that met the refusal is tried again; a held one is due only when its hold says so.
    """
    subject = ended.subject
    match judgement:
        case EndNow():
            return replace(ended, refusal=replace(refusal, ended_at=ended.at))
        case WaitUntil(at):
            kept = replace(refusal, due_at=at)
            waiting = _keep(ended, kept, Problem.refused, Verb.refusal_waits, earlier)
            return park(waiting, run, at)
        case HoldBack(opens):
            kept = replace(refusal, is_held=True)
            held = _keep(ended, kept, Problem.held, Verb.refusal_held, earlier)
            hold = open_hold(subject.provider, subject.client_id, False, ended.at) if opens else None
            connection = replace(held.connection or subject, sync_due_at=None)
            released = replace(run, lease_owner=None, lease_until=None, resume_at=None)
            return replace(held, connection=connection, run=released, hold=hold)
        case _:
            assert_never(judgement)


def is_recovered(rows: StepRows) -> bool:
    """Return whether an accepted access token proves that an earlier refusal of the connection was wrong.

    If it has a refresh token, only the token endpoint can prove that.
    """
    refreshable = rows.credential is not None and rows.credential.refresh_token is not None
    return not refreshable and rows.connection.problem in (Problem.refused, Problem.held)


def _keep(ended: StepDecision, kept: Refusal, problem: Problem, verb: Verb, earlier: Refusal | None) -> StepDecision:
    """Return the decision that keeps the token; it is noted once, however often the API refuses it."""
    is_known = earlier is not None and earlier.is_held == kept.is_held and not earlier.is_released
    return StepDecision(
        subject=ended.subject,
        at=ended.at,
        connection=replace(ended.subject, problem=problem.value),
        notes=() if is_known else (Note(verb, kept.evidence),),
        refusal=kept,
    )
