"""What a job may do with a call, what keeps one from leaving, and what each answer makes of it: tables, no database."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from models.crypto.secrets import Sealed
from models.gateway.access import Access
from models.gateway.call import (
    CallDecision,
    CallReason,
    CallStatus,
    Leave,
    Start,
    StoredCall,
    begin,
    bodies_kept,
    lease,
    longest_life,
    plan_call,
)
from models.gateway.call_outcome import admit, admit_still, decide_call, pause_of
from models.http import HttpAnswer, NoAnswer
from models.journal import Note, Verb
from models.messaging.events import CallFailure
from models.oauth.access_refusal import AccessRefusal, Final, Force, Known, Superseded
from models.oauth.connection import Connection, Status
from models.oauth.credential import Credential

now = datetime(2026, 11, 24, 12, tzinfo=UTC)
second, minute, hour = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
write = StoredCall(
    id="k1",
    connection_id="c1",
    idempotency_key="one",
    method="POST",
    path="/documents",
    actor="gateway:billing",
    status=CallStatus.pending,
    created_at=now,
    request=Sealed("v1.k.r"),
    bodies_until=now + bodies_kept,
    due_at=now,
)
read = replace(write, method="GET")
sent, sent_read = begin(write, "job", now), begin(read, "job", now)
late = now + longest_life

plans: dict[str, tuple[StoredCall, datetime, str]] = {
    "due": (write, now, "start"),
    "waits until later": (replace(write, due_at=now + second), now, "leave"),
    "under way": (sent, now + second, "leave"),
    "a safe one under way": (sent_read, now + second, "leave"),
    "its job died": (sent, now + lease, "unknown answer_lost"),
    "a safe one's job died": (sent_read, now + lease, "start"),
    "its job died an hour ago": (sent, late + lease, "unknown answer_lost"),
    "a safe one's job died an hour ago": (sent_read, late, "failed expired"),
    "not sent for an hour": (write, late, "failed expired"),
    "waited for an hour": (replace(write, reason="held"), late, "failed held"),
    "its request was erased": (replace(write, request=None), now, "failed erased"),
    "has ended": (replace(write, status=CallStatus.completed, due_at=None), late, "leave"),
}


def spell(decision: CallDecision) -> str:
    """Return a decision in short: the status, the reason, and for how long it waits."""
    call = decision.call
    waits = f" {(call.due_at - now).total_seconds():g}" if call.due_at is not None else ""
    return f"{call.status} {call.reason or call.answer_status}{waits}"


@pytest.mark.parametrize("case", plans)
def test_what_a_job_may_do_with_a_call(case: str) -> None:
    call, at, expected = plans[case]
    plan = plan_call(call, at)
    match plan:
        case Leave():
            assert expected == "leave"
        case Start():
            assert expected == "start"
        case CallDecision():
            assert spell(plan) == expected


connection = Connection("c1", "ada", "p", "client", "1", Status.active, created_at=now, generation=3)
credential = Credential("c1", Sealed("v1.k.a"), None, issued_at=now - hour)
live = Access(connection=replace(connection, expires_at=now + hour), credential=credential, is_refreshable=True)
spent = replace(live, connection=replace(connection, expires_at=now + second))

admissions: dict[str, tuple[Access | None, str | None]] = {
    "a good token": (live, None),
    "no such connection": (None, "failed connection_unknown"),
    "disconnected": (
        replace(live, connection=replace(connection, status=Status.disconnected)),
        "failed reauthorization_required",
    ),
    "a plan without API": (replace(live, connection=replace(connection, access_limited=True)), "failed plan_required"),
    "a token that expires": (spent, "pending refresh_pending 2"),
    "a refresh that is due": (
        replace(spent, connection=replace(spent.connection, refresh_due_at=now)),
        "pending refresh_pending 2",
    ),
    "held": (replace(spent, connection=replace(spent.connection, problem="held")), "pending held 30"),
    "an open breaker": (replace(spent, is_kept_back=True), "pending provider_unavailable 30"),
}


@pytest.mark.parametrize("case", admissions)
def test_what_keeps_a_call_from_leaving(case: str) -> None:
    access, expected = admissions[case]
    decision = admit(write, access, now)
    assert (None if decision is None else spell(decision)) == expected


meanwhile: dict[str, tuple[Connection, str | None]] = {
    "nothing": (connection, None),
    "a refresh is due": (replace(connection, refresh_due_at=now), None),
    "a refresh": (replace(connection, generation=4), "pending refresh_pending 0"),
    "a disconnect": (replace(connection, status=Status.disconnected), "failed reauthorization_required"),
    "a refresh and a disconnect": (
        replace(connection, status=Status.disconnected, generation=4),
        "failed reauthorization_required",
    ),
    "its grant was revoked": (replace(connection, status=Status.revoked), "failed reauthorization_required"),
}


@pytest.mark.parametrize("case", meanwhile)
def test_what_happened_meanwhile_keeps_a_call_from_leaving(case: str) -> None:
    current, expected = meanwhile[case]
    decision = admit_still(write, connection, current, now)
    assert (None if decision is None else spell(decision)) == expected


def test_a_refresh_is_asked_for_only_if_none_is_due() -> None:
    due = replace(spent, connection=replace(spent.connection, refresh_due_at=now))
    asked = [admit(write, access, now) for access in (spent, due)]
    assert [each is not None and each.asks_refresh for each in asked] == [True, False]
    assert [each and [message.actor for message in each.send] for each in asked] == [["carry_out_refresh"]] * 2


def answer(status: int, complete: bool = True, **headers: str) -> HttpAnswer:
    return HttpAnswer(status, {name.replace("_", "-"): value for name, value in headers.items()}, b"{}", complete)


@dataclass(frozen=True)
class Case:
    """An answer, and what becomes of a call whose method is not safe, and of one whose method is."""

    answer: HttpAnswer | NoAnswer
    unsafe: str
    safe: str
    refusal: AccessRefusal | None = None
    attempts: int = 1


refused = answer(401)
force = Force(credential, Note(Verb.access_refused))
outcomes: dict[str, Case] = {
    "created": Case(answer(201), "completed 201", "completed 201"),
    "a validation error": Case(answer(422), "completed 422", "completed 422"),
    "a redirect": Case(answer(302), "completed 302", "completed 302"),
    "an answer that was cut": Case(
        answer(201, complete=False), "completed answer_incomplete", "completed answer_incomplete"
    ),
    "a server error": Case(answer(500), "completed 500", "pending provider_unavailable 2"),
    "the fifth server error": Case(answer(502), "completed 502", "completed 502", attempts=5),
    "503": Case(answer(503), "completed 503", "pending provider_unavailable 2"),
    "503 that says when": Case(
        answer(503, retry_after="90"), "pending provider_unavailable 90", "pending provider_unavailable 90"
    ),
    "503 of a cache in front of the API": Case(
        answer(503, retry_after="5", content_type="text/html; charset=utf-8"),
        "completed 503",
        "pending provider_unavailable 5",
    ),
    "503 that says now": Case(
        answer(503, retry_after="0"), "pending provider_unavailable 1", "pending provider_unavailable 1"
    ),
    "429": Case(answer(429), "pending rate_limited 60", "pending rate_limited 60"),
    "429 that says when": Case(answer(429, retry_after="7"), "pending rate_limited 7", "pending rate_limited 7"),
    "429 for hours": Case(answer(429, retry_after="7200"), "failed rate_limited", "failed rate_limited"),
    "it never left": Case(
        NoAnswer(False, "ConnectError"), "pending provider_unavailable 2", "pending provider_unavailable 2"
    ),
    "it never left, again": Case(
        NoAnswer(False, "ConnectError"), "pending provider_unavailable 15", "pending provider_unavailable 15", None, 3
    ),
    "its time to leave had passed": Case(
        NoAnswer(False, "lease", 5 * second), "pending provider_unavailable 5", "pending provider_unavailable 5"
    ),
    "no answer": Case(NoAnswer(True, "ReadTimeout"), "unknown answer_lost", "pending provider_unavailable 2"),
    "401 of an old token": Case(refused, "pending token_refused 0", "pending token_refused 0", Superseded()),
    "401 that forces a refresh": Case(refused, "pending token_refused 2", "pending token_refused 2", force),
    "401 whose refresh is under way": Case(
        refused, "pending token_refused 2", "pending token_refused 2", Known(is_same=True)
    ),
    "401 of a fresh token": Case(refused, "completed 401", "completed 401", Known(is_same=False)),
    "401 that nothing refreshes": Case(refused, "pending token_refused 2", "pending token_refused 2", Final()),
    "401 of a connection that has ended": Case(refused, "pending token_refused 2", "pending token_refused 2"),
    "401 of a firewall": Case(answer(401, content_type="text/html"), "completed 401", "completed 401"),
}


@pytest.mark.parametrize("case", outcomes)
def test_what_an_answer_makes_of_a_call(case: str) -> None:
    given = outcomes[case]
    decided = {
        method: decide_call(replace(call, attempts=given.attempts), given.answer, given.refusal, now)
        for method, call in (("unsafe", sent), ("safe", sent_read))
    }
    assert {method: spell(each) for method, each in decided.items()} == {"unsafe": given.unsafe, "safe": given.safe}
    for each in decided.values():
        has_ended = each.call.ended_at is not None
        assert (each.call.due_at is None) == has_ended
        assert [fact.type for fact in each.facts] == ([f"call.{each.call.status}"] if has_ended else [])
        assert each.call.lease_owner is None


def test_only_a_write_that_may_have_been_made_makes_its_connection_due_for_reading() -> None:
    answers = (answer(201), answer(422), answer(500), NoAnswer(True, "ReadTimeout"), answer(429))
    changed = [decide_call(sent, each, None, now).may_have_changed for each in answers]
    assert changed == [True, False, False, True, False]
    assert not decide_call(sent_read, answer(200), None, now).may_have_changed


def test_a_429_stops_the_account_and_nothing_else_does() -> None:
    answers = (answer(429, retry_after="7"), answer(503, retry_after="7"), NoAnswer(True, "ReadTimeout"))
    assert [pause_of(each, now) for each in answers] == [7 * second, timedelta(), timedelta()]


def test_a_failure_is_published_by_a_reason_that_its_schema_knows() -> None:
    others = {CallReason.answer_lost, CallReason.answer_incomplete}
    assert set(get_args(CallFailure)) == {reason.value for reason in set(CallReason) - others}
