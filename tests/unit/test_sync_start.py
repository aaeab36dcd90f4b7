"""Whether a message starts a run, continues one or changes nothing: one table, no database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.clock import is_due
from models.journal import Note, Problem, Verb
from models.oauth.claims import Claims, unchanged_claims
from models.oauth.connection import Connection, Status
from models.sync.decision import StepDecision
from models.sync.start import StartRequest, set_aside, start
from models.sync.sync_run import RunStatus, SyncLease, SyncRun, run_lease

now = datetime(2026, 11, 24, 12, tzinfo=UTC)
minute, moment = timedelta(minutes=1), timedelta(milliseconds=20)
idle = Connection("c1", "ada", "p", "client", "1", Status.active, created_at=now, sync_due_at=now + minute)
due = replace(idle, sync_due_at=now)
locked = replace(idle, problem=Problem.token_unreadable)
asked = StartRequest(requested=True, repeated=False, run_id="r2", owner="w")
swept = replace(asked, requested=False)
again = replace(asked, repeated=True)
queued = SyncRun("r1", "c1", RunStatus.running, now - minute, place=2)
leased = replace(queued, lease_owner="other", lease_until=now + minute)
waiting = replace(queued, resume_at=now + minute)
taken = SyncLease("other", now + minute, now + minute)
over = replace(taken, until=now, claimed_until=now)
new = SyncRun("r2", "c1", RunStatus.running, now)


def led(subject: Connection, run: SyncRun, **changes: Any) -> StepDecision:
    """The decision that leases the run."""
    begins = changes.pop("begins", False)
    mine = replace(run, lease_owner="w", lease_until=now + run_lease, resume_at=None)
    due_at = subject.sync_due_at if is_due(subject.sync_due_at, now) else now
    saved = replace(subject, sync_due_at=due_at, **changes)
    claims = Claims(refresh=None, sync=now + run_lease)
    return StepDecision(subject=subject, at=now, connection=saved, claims=claims, run=mine, begins=begins, goes_on=True)


def noted(subject: Connection) -> StepDecision:
    """The decision that only remembers the request."""
    saved = replace(subject, sync_requested=True)
    return StepDecision(subject=subject, at=now, connection=saved, claims=unchanged_claims)


cases: dict[str, tuple[Connection, SyncRun | None, StartRequest, StepDecision | None]] = {
    "requested": (idle, None, asked, led(idle, replace(new, requested=True), begins=True)),
    "due": (due, None, swept, led(due, new, begins=True)),
    "not due": (idle, None, swept, None),
    "due a moment later, by a clock that is behind the sweep's": (
        replace(idle, sync_due_at=now + moment),
        None,
        swept,
        led(replace(idle, sync_due_at=now + moment), new, begins=True),
    ),
    "a run that continues a moment later": (
        idle,
        replace(waiting, resume_at=now + moment),
        swept,
        led(idle, replace(waiting, resume_at=now + moment)),
    ),
    "never due": (replace(idle, sync_due_at=None), None, swept, None),
    "requested, but delivered again": (idle, None, again, None),
    "due, and delivered again": (due, None, again, led(due, new, begins=True)),
    "during a run of another job": (idle, leased, swept, None),
    "requested during a run of another job": (idle, leased, asked, noted(idle)),
    "delivered again during its run": (idle, leased, again, None),
    "a run in the queue": (idle, queued, swept, led(idle, queued)),
    "requested, with a run in the queue": (idle, queued, asked, led(idle, queued, sync_requested=True)),
    "a run whose lease is over": (
        idle,
        replace(leased, lease_until=now),
        swept,
        led(idle, replace(leased, lease_until=now)),
    ),
    "requested, with a run that waits": (idle, waiting, asked, noted(idle)),
    "requested, with a run that waits for a key": (locked, waiting, asked, led(locked, waiting, sync_requested=True)),
    "requested, with a run of another job that has no key": (locked, leased, asked, noted(locked)),
    "a run that waits for a key": (locked, waiting, swept, None),
    "a run that waits": (idle, waiting, swept, None),
    "a run that waits, and is due": (due, waiting, swept, led(due, waiting)),
}


@pytest.mark.parametrize("case", cases)
def test_a_message_starts_continues_or_changes_nothing(case: str) -> None:
    connection, run, request, expected = cases[case]
    assert start(connection, run, None, request, now) == expected
    assert start(connection, run, over, request, now) == expected, "a lease that is over changes nothing"


leased_cases: dict[str, tuple[SyncRun | None, StartRequest, StepDecision | None]] = {
    "due": (None, swept, None),
    "requested": (None, asked, noted(due)),
    "delivered again": (None, again, None),
    "due, with a run in the queue, which a worker of an earlier release began": (queued, swept, None),
}


@pytest.mark.parametrize("case", leased_cases)
def test_no_job_reads_during_the_lease_of_a_run_that_is_not_stored(case: str) -> None:
    run, request, expected = leased_cases[case]
    assert start(due, run, taken, request, now) == expected


def test_only_a_run_that_no_one_asked_for_is_not_stored_when_it_begins() -> None:
    begun = {name: start(due, None, None, request, now) for name, request in {"due": swept, "asked": asked}.items()}
    begun["asked before"] = start(replace(due, sync_requested=True), None, None, swept, now)
    begun["continued"] = start(due, queued, None, swept, now)
    assert {name: each.only_leases for name, each in begun.items() if each} == {
        "due": True,
        "asked": False,
        "asked before": False,
        "continued": False,
    }
    by_due = begun["due"]
    assert by_due is not None
    assert by_due.run is not None
    assert not set_aside(by_due, by_due.run, minute).only_leases


leases = {
    "as it was taken": (taken, True),
    "of another job": (replace(taken, owner="w"), False),
    "released by a run of an earlier release, or by the end of the connection": (
        replace(taken, claimed_until=None),
        False,
    ),
    "claimed by another run, or by a sweep after it ran out": (replace(taken, claimed_until=now + 2 * minute), False),
}


@pytest.mark.parametrize("case", leases)
def test_a_job_writes_under_its_own_lease_only(case: str) -> None:
    lease, is_held = leases[case]
    assert lease.is_held_by("other") == is_held


def test_a_lease_whose_claim_was_written_since_holds_no_one_up() -> None:
    lost = replace(taken, claimed_until=None)
    assert start(due, None, lost, swept, now) == start(due, None, None, swept, now)
    planned = replace(due, sync_due_at=now + minute)
    assert start(planned, None, lost, asked, now) == start(planned, None, None, asked, now), "it is not left to a sync"


@pytest.mark.parametrize(
    ("requested", "full", "lists", "depth"),
    [(True, 60, 60, "full"), (False, 60, 60, "pulse"), (False, 60, 0, "usual"), (False, 0, 60, "full")],
)
def test_a_new_run_is_as_deep_as_it_is_due(requested: bool, full: int, lists: int, depth: str) -> None:
    planned = replace(due, full_due_at=now + full * minute, lists_due_at=now + lists * minute)
    decision = start(planned, None, None, replace(asked, requested=requested), now)
    assert decision is not None
    assert decision.run is not None
    assert decision.run.depth == depth


def test_a_request_that_waited_for_a_run_is_fulfilled_by_the_next() -> None:
    remembered = replace(due, sync_requested=True)
    assert start(remembered, None, None, swept, now) == led(
        remembered, replace(new, requested=True), begins=True, sync_requested=False
    )


@pytest.mark.parametrize("known", [False, True])
def test_a_run_without_a_readable_token_waits_for_an_operator_and_is_noted_once(known: bool) -> None:
    subject = replace(due, problem="token_unreadable" if known else None)
    decision = start(subject, None, None, swept, now)
    assert decision is not None
    assert decision.run is not None
    after = set_aside(decision, decision.run, 15 * minute)
    assert after.connection == replace(subject, problem=Problem.token_unreadable, sync_due_at=now + 15 * minute)
    assert after.run == replace(new, resume_at=now + 15 * minute)
    assert (after.begins, after.goes_on) == (True, False)
    assert after.notes == (() if known else (Note(Verb.sync_token_unreadable, {"generation": 0}),))
