"""What a judged 401 does to a connection that nothing refreshes."""

from dataclasses import replace
from datetime import timedelta

import pytest

from models.api_response import Unauthorized
from models.journal import Note, Verb
from models.oauth.hold import EndNow, HoldBack, Judgement, WaitUntil, describe_refusal, open_hold
from models.sync.refusal import carry_out, is_recovered
from models.sync.step import decide_step
from tests.unit.test_sync_step import credential, now, rows

token_only = replace(rows, credential=replace(credential, refresh_token=None))
ended = decide_step(token_only, Unauthorized(), now)
refusal = describe_refusal(ended)
subject = token_only.connection
later = now + timedelta(minutes=15)
evidence = {"generation": rows.generation, "status": 401}
hold = open_hold(subject.provider, subject.client_id, False, now)

kept: dict[str, tuple[Judgement, dict[str, object]]] = {
    "it waits": (WaitUntil(later), {"problem": "refused", "due": later, "verb": Verb.refusal_waits, "hold": None}),
    "it opens a hold": (
        HoldBack(opens=True),
        {"problem": "held", "due": None, "verb": Verb.refusal_held, "hold": hold},
    ),
    "it is held": (HoldBack(opens=False), {"problem": "held", "due": None, "verb": Verb.refusal_held, "hold": None}),
}


@pytest.mark.parametrize("case", kept)
def test_a_kept_token_is_due_when_it_is_tried_again(case: str) -> None:
    judgement, expected = kept[case]
    decision = carry_out(judgement, ended, refusal, None, rows.run)
    connection, run = decision.connection, decision.run
    assert connection is not None
    assert run is not None
    assert (connection.status, connection.problem) == ("active", expected["problem"])
    assert (connection.sync_due_at, run.resume_at) == (expected["due"], expected["due"])
    assert (run.lease_owner, run.lease_until) == (None, None)
    assert decision.notes == (Note(expected["verb"], evidence),)  # type: ignore[arg-type]
    assert (decision.hold, decision.facts, decision.ended, decision.credential) == (expected["hold"], (), None, None)


def test_a_further_refusal_of_a_held_token_is_not_noted() -> None:
    assert carry_out(HoldBack(opens=False), ended, refusal, replace(refusal, is_held=True), rows.run).notes == ()


def test_a_refusal_that_is_believed_ends_the_connection() -> None:
    decision = carry_out(EndNow(), ended, refusal, None, rows.run)
    assert decision == replace(ended, refusal=replace(refusal, ended_at=now))


@pytest.mark.parametrize(
    ("problem", "refreshable", "expected"),
    [
        ("held", False, True),
        ("refused", False, True),
        ("held", True, False),
        (None, False, False),
        ("plan_required", False, False),
    ],
)
def test_an_accepted_access_token_clears_a_refusal_of_itself_alone(
    problem: str | None, refreshable: bool, expected: bool
) -> None:
    troubled = replace(rows if refreshable else token_only, connection=replace(subject, problem=problem))
    assert is_recovered(troubled) is expected
