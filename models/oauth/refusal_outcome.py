"""What a refusal of a grant does once it is judged: it ends the connection, or its tokens are kept (promise 14)."""

from dataclasses import replace
from typing import assert_never

from models.journal import Note, Problem, Verb
from models.oauth.claims import refresh_released
from models.oauth.credential import (
    Credential,
    withdraw_presentation,
)
from models.oauth.hold import EndNow, HoldBack, Judgement, Refusal, WaitUntil, open_hold
from models.oauth.refresh_decision import RefreshDecision
from models.oauth.refresh_intent import Presentation


def carry_out(
    judgement: Judgement, ended: RefreshDecision, refusal: Refusal, credential: Credential, presentation: Presentation
) -> RefreshDecision:
    """Return what a judged refusal does: it ends the connection as `ended`, or its tokens are kept.

    A refused token surely was not spent: it can be presented again later.
    """
    subject, now = ended.subject, refusal.refused_at
    match judgement:
        case EndNow():
            return replace(ended, refusal=replace(refusal, ended_at=now))
        case WaitUntil(at):
            verb, problem, kept, hold = Verb.refusal_waits, Problem.refused, replace(refusal, due_at=at), None
        case HoldBack(opens):
            verb, problem, kept = Verb.refusal_held, Problem.held, replace(refusal, is_held=True)
            hold = open_hold(refusal.provider, refusal.client_id, False, now) if opens else None
        case _:
            assert_never(judgement)
    return RefreshDecision(
        subject=subject,
        at=now,
        connection=replace(subject, refresh_due_at=kept.due_at, problem=problem.value),
        claims=refresh_released,
        credential=withdraw_presentation(credential, presentation.before),
        notes=(Note(verb, refusal.evidence),),
        client_accepted=ended.client_accepted,
        refusal=kept,
        hold=hold,
        send=ended.send,
    )
