"""What an answer to a presented refresh token does to its rows: one table, no database."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from models.api_response import Failed, Forbidden, Unauthorized
from models.crypto.secrets import Sealed, Secret
from models.messaging import messages
from models.oauth.breaker import Endpoint, endpoint_of
from models.oauth.claims import Claims, refresh_released, released, unchanged_claims
from models.oauth.client import Cause, StoredClient
from models.oauth.connection import Connection, Status
from models.oauth.credential import Credential, lease, present
from models.oauth.refresh_decision import RefreshDecision, drop_pair, save_pair
from models.oauth.refresh_intent import (
    Attempt,
    Presentation,
    attempt_after,
    intend,
    pause_client,
    set_aside,
    settle_unknown,
)
from models.oauth.refresh_outcome import decide
from models.oauth.refresh_policy import Patience, throttled_pause
from models.oauth.token_pair import TokenPair
from models.oauth.token_response import (
    ClientRefused,
    Evidence,
    GrantRefused,
    NotNow,
    OutcomeUnknown,
    RequestRefused,
    ScopeRefused,
    TokenOutcome,
    TokensGranted,
)
from models.oauth.unknown_outcome import Lost, PresentAgain, Presumed, Unspent, Verdict, Wait
from models.provider import Provider

now = datetime(2026, 11, 24, 12, tzinfo=UTC)
second, minute, hour = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
sent_at = now - second
patience = Patience()
provider = Provider(name="p", authorize_url="https://p/a", token_url="https://p/t", api_url="https://p/api")

connection = Connection(
    "c1", "ada", "p", "client", "1", Status.active, created_at=now, generation=3, refresh_due_at=sent_at + minute
)
lost = replace(connection, status=Status.revoked, revoked_reason="rotation_lost")
gone = replace(connection, status=Status.disconnected)
idle = Credential("c1", Sealed("v1.k.a"), Sealed("v1.k.r"))
client = StoredClient("p", "client")
endpoint = Endpoint("https://p/t", most_uncertain=3)
presentation = Presentation(Attempt("worker", scope="read"), 3, idle, sent_at + minute, sent_at, endpoint)
shown = lease(present(idle, 3, sent_at), "worker", sent_at + minute)

earlier = present(idle, 3, sent_at - hour)
second_try = Presentation(Attempt("worker", after_unknown=True), 3, earlier, sent_at + minute, sent_at, endpoint)
shown_twice = lease(present(earlier, 3, sent_at), "worker", sent_at + minute)

granted = TokensGranted(Secret("a2"), Secret("r2"), hour, "read")
seen = Evidence(400, "some_error", "a hint", "a text")


@dataclass(frozen=True)
class Expected:
    """What is compared of a decision."""

    verbs: tuple[str, ...]
    status: str | None = None
    due: datetime | None = None
    problem: str | None = None
    credential: Credential | None = None
    facts: tuple[str, ...] = ()
    send: tuple[str, ...] = ()
    pause: datetime | None = None
    accepted: bool = False


def summary(decision: RefreshDecision) -> Expected:
    saved = decision.connection
    return Expected(
        verbs=tuple(note.verb for note in decision.notes),
        status=None if saved is None else saved.status.value,
        due=None if saved is None else saved.refresh_due_at,
        problem=None if saved is None else saved.problem,
        credential=decision.credential,
        facts=tuple(fact.type for fact in (*decision.facts, *decision.client_facts)),
        send=tuple(message.actor for message in decision.send),
        pause=decision.endpoint_paused_until,
        accepted=decision.client_accepted,
    )


publish = ("publish_events",)
dead = replace(idle, access_token=None, refresh_token=None, presented_at=sent_at, presented_generation=3)
dead = replace(dead, presentations=1)
superseded = Expected(("refresh.superseded",))
handed_over = Expected(("refresh.handed_over",))
ended = ("connection.reauthorization_required",)


def accepted(expected: Expected) -> Expected:
    return replace(expected, accepted=True)


def revoked(reason: str, credential: Credential = dead) -> Expected:
    return Expected((f"revoked.{reason}",), "revoked", None, None, credential, ended, publish, accepted=True)


def put_off(verb: str, due: datetime, problem: str, credential: Credential, pause: datetime | None = None) -> Expected:
    credential = replace(credential, failures=credential.failures + 1)
    return Expected((verb,), "active", due, problem, credential, (), publish, pause)


by_api = replace(shown, refused_generation=3, refused_at=sent_at)
busy = NotNow(seen, None, throttled=False)
unavailable = NotNow(seen, None, throttled=False, sure=False)
unavailable_left = replace(present(idle, 3, sent_at), answered_at=now)

Case = tuple[Connection, Credential, Presentation, TokenOutcome, Expected]
answers: dict[str, Case] = {
    "refused": (connection, shown, presentation, GrantRefused(seen, False), revoked("refresh_rejected")),
    "expired": (connection, shown, presentation, GrantRefused(seen, True), revoked("refresh_expired")),
    "refused after a 401": (
        connection,
        by_api,
        presentation,
        GrantRefused(seen, False),
        revoked("access_revoked", replace(dead, refused_generation=3, refused_at=sent_at)),
    ),
    "refused after an unknown outcome": (
        connection,
        shown_twice,
        second_try,
        GrantRefused(seen, True),
        revoked("rotation_lost", replace(dead, presentations=2)),
    ),
    "no clear answer": (
        connection,
        shown,
        presentation,
        OutcomeUnknown(seen),
        Expected(("refresh.unknown",), credential=present(idle, 3, sent_at), send=publish),
    ),
    "malformed": (
        connection,
        shown,
        presentation,
        RequestRefused(seen),
        put_off("refresh.malformed", now + 5 * second, "refresh_malformed", idle),
    ),
    "not now": (
        connection,
        shown,
        presentation,
        busy,
        put_off("refresh.not_now", now + 5 * second, "provider_unavailable", idle),
    ),
    "not now, come again in an hour": (
        connection,
        shown,
        presentation,
        replace(busy, retry_after=hour),
        put_off("refresh.not_now", now + hour, "provider_unavailable", idle),
    ),
    "throttled": (
        connection,
        shown,
        presentation,
        replace(busy, throttled=True),
        put_off("refresh.not_now", now + 5 * second, "provider_unavailable", idle, now + throttled_pause),
    ),
    "throttled for an hour": (
        connection,
        shown,
        presentation,
        NotNow(seen, hour, throttled=True),
        put_off("refresh.not_now", now + hour, "provider_unavailable", idle, now + hour),
    ),
    "503": (
        connection,
        shown,
        presentation,
        unavailable,
        put_off("refresh.unavailable", now + 5 * second, "provider_unavailable", unavailable_left),
    ),
    "503 to the second try": (
        connection,
        shown_twice,
        second_try,
        unavailable,
        put_off("refresh.unavailable", now + 5 * second, "provider_unavailable", earlier),
    ),
    "scope refused": (
        connection,
        shown,
        presentation,
        ScopeRefused(seen),
        Expected(("refresh.scope_refused",), "active", now, None, idle, (), (*publish, "carry_out_refresh")),
    ),
    "scope refused, none sent": (
        connection,
        shown,
        replace(presentation, attempt=Attempt("worker")),
        ScopeRefused(seen),
        Expected(
            ("client.rejected",),
            "active",
            now + 30 * second,
            None,
            replace(idle, failures=1),
            ("provider.client_rejected",),
            publish,
        ),
    ),
    "client rejected": (
        connection,
        replace(shown, failures=2),
        presentation,
        ClientRefused(seen),
        Expected(
            ("client.rejected",),
            "active",
            now + 2 * minute,
            None,
            replace(idle, failures=3),
            ("provider.client_rejected",),
            publish,
        ),
    ),
    "refused, of an older generation": (
        replace(connection, generation=4),
        replace(shown, presented_at=None, presented_generation=None),
        presentation,
        GrantRefused(seen, False),
        accepted(superseded),
    ),
    "refused, settled meanwhile": (connection, idle, presentation, GrantRefused(seen, False), accepted(superseded)),
    "refused, disconnected meanwhile": (gone, shown, presentation, GrantRefused(seen, False), accepted(superseded)),
    "refused, leased by another": (
        connection,
        lease(shown, "another", now + minute),
        presentation,
        GrantRefused(seen, False),
        accepted(handed_over),
    ),
    "refused, given up meanwhile": (lost, shown, presentation, GrantRefused(seen, False), accepted(handed_over)),
    "unknown, leased by another": (
        connection,
        lease(shown, "another", now + minute),
        presentation,
        OutcomeUnknown(seen),
        handed_over,
    ),
    "a pair, of an older generation": (
        replace(connection, generation=4),
        idle,
        presentation,
        granted,
        accepted(superseded),
    ),
    "a pair, disconnected meanwhile": (gone, shown, presentation, granted, accepted(superseded)),
}


@pytest.mark.parametrize("case", answers)
def test_each_answer_has_one_decision(case: str) -> None:
    current, credential, sent, outcome, expected = answers[case]
    assert summary(decide(current, credential, client, sent, outcome, now)) == expected


rotations: dict[str, tuple[Connection, Credential, tuple[str, ...], tuple[str, ...]]] = {
    "a pair": (connection, shown, ("connection.refreshed",), publish),
    "a pair, leased by another": (connection, lease(shown, "another", now), ("connection.refreshed",), publish),
    "a pair, settled meanwhile": (connection, idle, ("connection.refreshed",), publish),
    "a pair, given up meanwhile": (lost, idle, ("connection.authorized",), publish),
    "a pair after a 401": (connection, by_api, ("connection.refreshed",), (*publish, "read_connection")),
}


@pytest.mark.parametrize("case", rotations)
def test_a_pair_is_saved_unless_a_newer_one_was(case: str) -> None:
    current, credential, facts, send = rotations[case]
    decision = decide(current, credential, client, presentation, granted, now)
    saved, rotated = decision.connection, decision.credential
    assert saved is not None
    assert rotated is not None
    assert (saved.status, saved.generation, saved.expires_at) == (Status.active, 4, now + hour)
    assert (rotated.presented_at, rotated.lease_owner, rotated.failures) == (None, None, 0)
    assert (decision.granted, decision.client_accepted) == (granted, True)
    # A sync that the 401 had made wait is due now; any other is left to the job or message that has it.
    assert decision.claims == (released if credential == by_api else refresh_released)
    assert tuple(fact.type for fact in decision.facts) == facts
    assert tuple(message.actor for message in decision.send) == send
    assert [note.verb for note in decision.notes] == ["refresh.saved"]


def test_a_late_pair_is_decided_as_of_when_it_was_issued() -> None:
    decision = save_pair(connection, by_api, TokenPair(granted, now - hour))
    assert decision.at == now - hour
    assert decision.connection is not None
    assert decision.connection.sync_due_at == now - hour


def test_a_pair_that_is_not_saved_is_handed_on() -> None:
    decision = decide(gone, shown, client, presentation, granted, now)
    assert decision.unsaved == granted
    assert decision.connection is None
    assert drop_pair(gone, granted, now).notes == ()


def test_the_evidence_of_a_refusal_is_noted() -> None:
    decision = decide(connection, shown, client, presentation, GrantRefused(seen, False), now)
    assert dict(decision.notes[0].evidence) == {
        "generation": 3,
        "status": 400,
        "error": "some_error",
        "hint": "a hint",
        "description": "a text",
    }
    assert decision.runs_end == "refresh_rejected"


def test_a_refresh_that_only_puts_itself_off_leaves_the_claim_of_the_sync_alone() -> None:
    decision = decide(connection, shown, client, presentation, busy, now)
    assert decision.claims == Claims(refresh=None)
    assert decide(connection, shown, client, presentation, OutcomeUnknown(seen), now).claims == unchanged_claims


suspected = replace(client, suspects=("c8", "c9"))
uncertain: dict[str, TokenOutcome] = {"no clear answer": OutcomeUnknown(seen), "503": unavailable, "never left": busy}


@pytest.mark.parametrize("case", uncertain)
def test_the_third_uncertain_answer_in_a_row_opens_the_breaker_whatever_became_of_the_rows(case: str) -> None:
    for current in (connection, replace(connection, generation=4)):
        decision = decide(current, shown, suspected, presentation, uncertain[case], now)
        assert decision.client is not None
        assert decision.client.cause is Cause.unavailable
        assert [fact.type for fact in decision.client_facts] == ["provider.unavailable"]


def test_a_client_that_pauses_already_stays_as_it_is() -> None:
    paused = replace(
        client, cause=Cause.rejected, opened_at=now - minute, error="e", probes=1, next_probe_at=now + hour
    )
    decision = pause_client(connection, idle, paused, seen, now)
    assert decision.client == paused
    assert decision.client_facts == ()
    assert decision.connection is not None
    assert decision.connection.refresh_due_at == now + hour


def test_a_token_that_does_not_open_is_tried_again_later() -> None:
    expected = Expected(
        ("refresh.token_unreadable",), "active", now + 5 * second, "token_unreadable", replace(idle, failures=1)
    )
    assert summary(set_aside(connection, lease(idle, "worker", now), now)) == expected


grace = replace(provider, refresh_reuse="grace", grace_seconds=30)
first_shown = present(idle, 3, now - 25 * second)
intents: dict[str, tuple[Credential, Attempt, Provider, timedelta, int]] = {
    "unspent": (idle, Attempt("w"), provider, 10 * second, 1),
    "after an unknown outcome": (first_shown, Attempt("w", after_unknown=True), provider, 10 * second, 2),
    "within a grace": (first_shown, Attempt("w", after_unknown=True), grace, 5 * second, 2),
    "presumed unspent": (first_shown, Attempt("w", after_unknown=True, presumed=True), grace, 10 * second, 1),
}


@pytest.mark.parametrize("case", intents)
def test_lease_and_intent_are_committed_with_the_time_to_resolve_them(case: str) -> None:
    before, attempt, profile, in_time, presentations = intents[case]
    sent, decision = intend(connection, before, attempt, profile, patience, now)
    assert sent == Presentation(attempt, 3, before, now + in_time, now, endpoint_of(profile))
    credential = decision.credential
    assert credential is not None
    assert (credential.lease_owner, credential.lease_until) == ("w", now + patience.lease)
    assert (credential.presented_at, credential.presented_generation) == (now, 3)
    assert credential.presentations == presentations
    assert decision.connection == replace(connection, refresh_due_at=now + patience.settle)
    assert decision.claims == Claims(refresh=None)


leased = lease(first_shown, "w", now + minute)
verdicts: dict[str, tuple[Verdict, Expected, Attempt | None]] = {
    "unspent": (Unspent(), Expected(("resolved.unspent",), credential=lease(idle, "w", now + minute)), Attempt("w")),
    "presumed": (Presumed(), Expected(("resolved.presumed",)), Attempt("w", after_unknown=True, presumed=True)),
    "present again": (PresentAgain(), Expected(("resolved.presentagain",)), Attempt("w", after_unknown=True)),
    "wait": (
        Wait(now + minute),
        Expected(("resolved.wait",), "active", now + minute, None, first_shown),
        None,
    ),
    "lost": (
        Lost(),
        Expected(
            ("resolved.lost", "revoked.rotation_lost"),
            "revoked",
            None,
            None,
            replace(first_shown, access_token=None, refresh_token=None),
            ended,
            publish,
        ),
        None,
    ),
}


@pytest.mark.parametrize("case", verdicts)
def test_each_verdict_on_an_unknown_outcome_has_one_decision(case: str) -> None:
    verdict, expected, attempt = verdicts[case]
    decision = settle_unknown(connection, leased, verdict, Forbidden(), now)
    assert summary(decision) == expected
    assert attempt_after(verdict, "w") == attempt


@pytest.mark.parametrize(
    ("probe", "name"), [(None, "none"), (Unauthorized(), "Unauthorized"), (Failed("timeout"), "Failed")]
)
def test_a_verdict_is_noted_with_what_the_probe_saw(probe: Unauthorized | Failed | None, name: str) -> None:
    decision = settle_unknown(connection, leased, Presumed(), probe, now)
    assert dict(decision.notes[0].evidence) == {"probe": name, "generation": 3}


def test_a_scope_that_is_refused_is_never_sent_again_and_the_refresh_is_due_at_once() -> None:
    decision = decide(connection, shown, client, presentation, ScopeRefused(seen), now)
    assert decision.client == replace(client, omit_refresh_scope=True)
    assert decision.send == (messages.publish_events(), messages.carry_out_refresh("c1"))
