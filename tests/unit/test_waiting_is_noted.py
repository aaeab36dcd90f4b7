"""What waits leaves a note and a reason, once for each change of state."""

from dataclasses import replace
from datetime import timedelta

import pytest

from models.api_response import Throttled
from models.journal import Problem, Verb
from models.oauth.authorization import Step, hold_up, keep_waiting
from models.rate_limit import Wait
from models.sync.decision import PageRead
from models.sync.step import StepAnswer, decide_step
from tests.unit.test_held_up_authorization import granted
from tests.unit.test_sync_step import account_page, now, rows

received = replace(granted, step=Step.received)
waits: dict[str, tuple[StepAnswer, str | None, str | None, int]] = {
    "a 429 for ten minutes": (Throttled(timedelta(minutes=10)), None, Problem.throttled, 1),
    "an account that is paused for ten minutes": (Wait(600), None, Problem.throttled, 1),
    "the usual rate limit": (Wait(40), None, None, 0),
    "a rate limit that was used up in a second": (Wait(61), None, None, 0),
    "a 429 for a moment": (Throttled(timedelta(seconds=5)), None, None, 0),
    "a 429 again": (Throttled(timedelta(minutes=10)), Problem.throttled, Problem.throttled, 0),
    "a 429 while its token is held": (Throttled(timedelta(minutes=10)), Problem.held, Problem.held, 0),
}


@pytest.mark.parametrize("case", waits)
def test_a_sync_that_waits_long_is_noted_once(case: str) -> None:
    answer, before, after, notes = waits[case]
    waiting = replace(rows, connection=replace(rows.connection, problem=before))
    decision = decide_step(waiting, answer, now)
    assert decision.connection is not None
    assert decision.connection.problem == after
    assert [note.verb for note in decision.notes] == [Verb.sync_throttled] * notes


def test_the_next_page_clears_it() -> None:
    waiting = replace(rows, connection=replace(rows.connection, problem=Problem.throttled.value))
    page: PageRead = account_page(rows.connection.account_id)
    connection = decide_step(waiting, page, now).connection
    assert connection is not None
    assert connection.problem is None


@pytest.mark.parametrize(
    ("before", "notes"),
    [
        (received, 1),
        (hold_up(received, "HTTP 503"), 1),
        (hold_up(received, "no secret", "client_unknown"), 0),
        (hold_up(received, "another text", "client_unknown"), 1),
    ],
)
def test_an_authorization_that_waits_is_noted_when_its_reason_changes(before: object, notes: int) -> None:
    assert isinstance(before, type(received))
    change = keep_waiting(before, "client_unknown", "no secret", Verb.exchange_client_unknown, now)
    after = change.authorization
    assert (after.step, after.reason, after.description, after.due_at) == (
        Step.received,
        "client_unknown",
        "no secret",
        now,
    )
    assert [note.verb for note in change.notes] == [Verb.exchange_client_unknown] * notes
