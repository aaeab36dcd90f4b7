"""What becomes of an authorization: before its code is presented, by each token answer, by each account answer."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.account import Account
from models.api_response import ApiOutcome, Failed, Forbidden, Throttled, Unauthorized
from models.crypto.secrets import Sealed, Secret
from models.messaging.events import AuthorizationFailed
from models.oauth.authorization import (
    Authorization,
    AuthorizationChange,
    Step,
    awaits_user,
    came_too_late,
    end_by_error,
    end_of_code,
    receive_code,
)
from models.oauth.client import OAuthClient
from models.oauth.connection import Connection, Status, why_refused
from models.oauth.credential import Credential, kept_refresh_token
from models.oauth.exchange_outcome import (
    CodeRequest,
    EndGrant,
    ExchangeDecision,
    KeepNewer,
    Later,
    MakeConnection,
    PresentCode,
    ReadAccount,
    await_refresh,
    connect,
    decide_account,
    decide_exchange,
    decide_without_account,
    plan_exchange,
)
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

now = datetime(2026, 11, 24, 12, tzinfo=UTC)
second = timedelta(seconds=1)
minute = timedelta(minutes=1)
hour = timedelta(hours=1)
lease = timedelta(seconds=60)
deadline = timedelta(seconds=20)

started = Authorization(
    id="a1",
    provider="breezedoc",
    client_id="client",
    user_id="ada",
    redirect_uri="http://localhost/auth/breezedoc/callback",
    step=Step.started,
    state_hash="state",
    browser_hash="browser",
    created_at=now,
    expires_at=now + 10 * minute,
    verifier=Sealed("v1.k.v"),
)
received = receive_code(started, Sealed("v1.k.c"), now)
granted = replace(received, step=Step.granted, code=None, verifier=None, tokens=Sealed("v1.k.t"))
leased: dict[str, Any] = {"lease_owner": "me", "lease_until": now + lease, "due_at": now + lease}

plans: dict[str, tuple[Authorization, object]] = {
    "the user is at the provider": (started, None),
    "the user did not come back": (replace(started, expires_at=now), "expired"),
    "a code": (received, PresentCode(replace(received, **leased))),
    "a code that waits for its time": (replace(received, due_at=now + second), None),
    "a code by a clock that is ahead": (
        replace(received, code_received_at=now + second, due_at=now + second),
        PresentCode(replace(received, code_received_at=now + second, **leased)),
    ),
    "leased by another": (replace(received, lease_owner="other", lease_until=now + second), None),
    "a lease that ends now": (
        replace(received, lease_owner="other", lease_until=now),
        PresentCode(replace(received, **leased)),
    ),
    "presented once": (replace(received, attempts=1), PresentCode(replace(received, attempts=1, **leased))),
    "presented twice": (replace(received, attempts=2), "answer_lost"),
    "too old, never presented": (replace(received, code_received_at=now - 10 * minute), "expired"),
    "too old, the provider took none": (
        replace(received, code_received_at=now - 10 * minute, reason="provider_unavailable", description="HTTP 503"),
        "provider_unavailable",
    ),
    "too old, the provider's answer lost": (
        replace(received, code_received_at=now - 10 * minute, attempts=1, reason="provider_unavailable"),
        "answer_lost",
    ),
    "too old, kept by a trouble of ours": (
        replace(received, code_received_at=now - 10 * minute, reason="client_unknown", description="no such client"),
        "expired",
    ),
    "too old, presented once": (replace(received, code_received_at=now - 10 * minute, attempts=1), "answer_lost"),
    "tokens saved": (granted, ReadAccount(replace(granted, **leased))),
    "connected": (replace(granted, step=Step.connected), None),
    "denied": (replace(started, step=Step.denied), None),
    "failed": (replace(started, step=Step.failed), None),
}


@pytest.mark.parametrize("case", plans)
def test_a_code_is_presented_only_if_due_free_young_and_not_spent(case: str) -> None:
    found, expected = plans[case]
    plan = plan_exchange(found, "me", lease, now)
    actual = plan.authorization.reason if isinstance(plan, AuthorizationChange) else plan
    assert actual == expected


kept_back: dict[str, tuple[timedelta, int, timedelta | None]] = {
    "fresh": (timedelta(), 0, 5 * second),
    "at the end of its life": (10 * minute - second, 0, second),
    "over": (10 * minute, 0, None),
}


@pytest.mark.parametrize("case", kept_back)
def test_a_code_behind_an_open_breaker_waits_for_the_probe_and_fails_as_unavailable_when_its_life_ends(
    case: str,
) -> None:
    age, attempts, due_in = kept_back[case]
    waiting = replace(received, code_received_at=now - age, due_at=now - age, attempts=attempts)
    plan = plan_exchange(waiting, "me", lease, now, now + 5 * second)
    assert isinstance(plan, AuthorizationChange)
    assert plan.authorization.due_at == (None if due_in is None else now + due_in)
    assert plan.authorization.reason == "provider_unavailable"
    assert plan.authorization.step is (Step.received if due_in else Step.failed)


@pytest.mark.parametrize(("age", "attempts"), [(10 * minute, 1), (minute, 2)], ids=["over", "spent"])
def test_a_code_whose_answer_was_lost_does_not_fail_as_unavailable_behind_an_open_breaker(
    age: timedelta, attempts: int
) -> None:
    lost = replace(received, code_received_at=now - age, due_at=now - age, attempts=attempts)
    plan = plan_exchange(lost, "me", lease, now, now + 5 * second)
    assert isinstance(plan, AuthorizationChange)
    assert (plan.authorization.step, plan.authorization.reason) == (Step.failed, "answer_lost")


presented = replace(received, lease_owner="me", lease_until=now + lease, presented_at=now, attempts=1)
client = OAuthClient(
    provider="breezedoc", client_id="client", client_secret=Secret("secret"), redirect_uri=started.redirect_uri
)
request = CodeRequest(presented, client, Secret("code"), None, now + minute)
second_request = replace(request, after_unknown=True)
evidence = Evidence(400, "error", "hint", "description")
tokens = TokensGranted(Secret("access"), Secret("refresh"), hour, "read")

refusals: dict[str, tuple[TokenOutcome, CodeRequest, str]] = {
    "the code is refused": (GrantRefused(evidence, expired=False), request, "code_rejected"),
    "the code is expired": (GrantRefused(evidence, expired=True), request, "expired"),
    "the code is expired, the provider took none before": (
        GrantRefused(evidence, expired=True),
        replace(request, authorization=replace(presented, reason="provider_unavailable")),
        "provider_unavailable",
    ),
    "the code is expired, a 503 before": (
        GrantRefused(evidence, expired=True),
        replace(second_request, authorization=replace(presented, reason="provider_unavailable")),
        "provider_unavailable",
    ),
    "the code is expired, an answer was lost before": (
        GrantRefused(evidence, expired=True),
        replace(second_request, authorization=replace(presented, reason="provider_unavailable", attempts=2)),
        "answer_lost",
    ),
    "the code is refused, the provider took none before": (
        GrantRefused(evidence, expired=False),
        replace(request, authorization=replace(presented, reason="provider_unavailable")),
        "code_rejected",
    ),
    "the second time": (GrantRefused(evidence, expired=True), second_request, "answer_lost"),
    "the scope": (ScopeRefused(evidence), request, "code_rejected"),
    "the request": (RequestRefused(evidence), request, "code_rejected"),
    "the request, the second time": (RequestRefused(evidence), second_request, "answer_lost"),
    "our client": (ClientRefused(evidence), request, "client_rejected"),
    "our client, the second time": (ClientRefused(evidence), second_request, "client_rejected"),
}


@pytest.mark.parametrize("case", refusals)
def test_a_refusal_ends_the_authorization_with_its_reason(case: str) -> None:
    outcome, its_request, reason = refusals[case]
    decision = decided(outcome, its_request)
    failed = decision.change.authorization
    assert (failed.step, failed.reason, failed.due_at) == (Step.failed, reason, None)
    assert (failed.code, failed.verifier, failed.lease_owner) == (None, None, None)
    assert [type(fact) for fact in decision.change.facts] == [AuthorizationFailed]
    assert [note.verb for note in decision.change.notes] == [f"failed.{reason}"]


waits: dict[str, tuple[TokenOutcome, CodeRequest, tuple[timedelta, bool, int, timedelta | None]]] = {
    "busy": (NotNow(evidence, None, False), request, (3 * second, False, 0, None)),
    "busy for a minute": (NotNow(evidence, minute, False), request, (minute, False, 0, None)),
    "busy beyond the code's life": (NotNow(evidence, hour, False), request, (10 * minute, False, 0, None)),
    "throttled": (NotNow(evidence, None, True), request, (minute, False, 0, minute)),
    "throttled for an hour": (NotNow(evidence, hour, True), request, (10 * minute, False, 0, hour)),
    "busy, perhaps spent": (NotNow(evidence, None, False, sure=False), request, (3 * second, True, 0, None)),
    "busy, after an unknown answer": (NotNow(evidence, None, False), second_request, (3 * second, True, 0, None)),
    "unknown": (OutcomeUnknown(evidence), request, (deadline, True, 1, None)),
}


@pytest.mark.parametrize("case", waits)
def test_an_answer_that_spent_nothing_for_sure_is_no_presentation(case: str) -> None:
    outcome, its_request, (wait, is_presented, attempts, pause) = waits[case]
    decision = decided(outcome, its_request)
    waiting = decision.change.authorization
    assert (waiting.step, waiting.due_at, waiting.lease_owner) == (Step.received, now + wait, None)
    assert (waiting.presented_at is not None, waiting.attempts) == (is_presented, attempts)
    assert decision.paused_until == (None if pause is None else now + pause)
    assert decision.change.facts == ()


def test_tokens_count_whoever_has_the_lease_by_now() -> None:
    for found in (presented, replace(presented, lease_owner="other")):
        decision = decide_exchange(found, request, tokens, deadline, now)
        assert decision is not None
        assert decision.pair is not None
        assert (decision.change.authorization.step, decision.pair.granted) == (Step.granted, tokens)


def test_any_other_answer_is_left_to_whoever_has_the_lease_by_now() -> None:
    taken_over = replace(presented, lease_owner="other")
    assert decide_exchange(taken_over, request, ClientRefused(evidence), deadline, now) is None


@pytest.mark.parametrize("step", [step for step in Step if step is not Step.received])
def test_nothing_changes_an_authorization_that_has_gone_on(step: Step) -> None:
    assert decide_exchange(replace(presented, step=step), request, tokens, deadline, now) is None


Granted = tuple[Authorization, timedelta]


def granted_at(seconds: float) -> Granted:
    """An authorization whose tokens were issued that long ago."""
    return granted, timedelta(seconds=seconds)


accounts: dict[str, tuple[ApiOutcome, Granted | Authorization, tuple[Step, str | None, timedelta | None]]] = {
    "401 for tokens of this moment": (Unauthorized(), granted_at(0), (Step.granted, None, second)),
    "401 again": (Unauthorized(), granted_at(9.5), (Step.granted, None, second / 2)),
    "401 after ten seconds": (Unauthorized(), granted_at(10), (Step.failed, "code_rejected", None)),
    "401 before the tokens expire": (Unauthorized(), granted_at(3_590), (Step.failed, "code_rejected", None)),
    "401 when they have expired": (Unauthorized(), granted_at(3_600), (Step.failed, "answer_lost", None)),
    "403": (Forbidden(), granted, (Step.failed, "denied", None)),
    "429": (Throttled(hour), granted, (Step.granted, None, hour)),
    "no answer": (Failed("timeout"), granted, (Step.granted, None, 5 * second)),
    "no answer again": (Failed("timeout"), replace(granted, attempts=1), (Step.granted, None, 30 * second)),
    "no answer for a day": (
        Failed("timeout"),
        replace(granted, code_received_at=now - 25 * hour),
        (Step.failed, "answer_lost", None),
    ),
}


@pytest.mark.parametrize("case", accounts)
def test_an_account_that_is_not_named_is_waited_for_unless_it_is_refused(case: str) -> None:
    outcome, found, (step, reason, wait) = accounts[case]
    found, age = found if isinstance(found, tuple) else (found, hour)
    after = decide_without_account(found, outcome, "breezedoc", TokenPair(tokens, now - age), now).authorization
    told = after.reason if after.step is Step.failed else None
    assert (after.step, told, after.due_at) == (step, reason, None if wait is None else now + wait)


account = Account("1", "ada@example.com")
existing = Connection("c1", "ada", "breezedoc", "client", "1", Status.revoked, created_at=now)
aimed = replace(granted, target_connection_id="c1")


@pytest.mark.parametrize(
    ("found", "before"), [(granted, None), (granted, existing), (aimed, existing)], ids=["new", "same", "aimed at"]
)
def test_an_account_becomes_a_connection(found: Authorization, before: Connection | None) -> None:
    assert decide_account(found, account, before, Later(), shares_grant=True) == MakeConnection(account, before)


@pytest.mark.parametrize("before", [None, replace(existing, account_id="2")], ids=["gone", "another account"])
@pytest.mark.parametrize("shares_grant", [True, False])
def test_another_account_s_grant_is_ended_unless_it_may_be_in_use(
    before: Connection | None, shares_grant: bool
) -> None:
    decision = decide_account(aimed, account, before, Later(), shares_grant)
    assert isinstance(decision, EndGrant)
    assert (decision.change.authorization.reason, decision.revokes) == ("account_mismatch", not shares_grant)
    spared = ["exchange.grant_spared"] if shares_grant else []
    assert [note.verb for note in decision.change.notes] == ["failed.account_mismatch", *spared]


granted_an_hour_ago = replace(granted, code_received_at=now - hour)
since: dict[str, tuple[Later, type[object], str | None]] = {
    "nothing": (Later(), MakeConnection, None),
    "an earlier authorization": (Later(now - 2 * hour), MakeConnection, None),
    "one at the same moment": (Later(now - hour + 5 * second), MakeConnection, None),
    "a later authorization": (Later(now - hour + 6 * second), KeepNewer, None),
    "an earlier disconnect": (Later(None, now - 2 * hour), MakeConnection, None),
    "a disconnect while the code lives": (Later(None, end_of_code(granted_an_hour_ago)), MakeConnection, None),
    "a later disconnect": (Later(None, end_of_code(granted_an_hour_ago) + second), EndGrant, "expired"),
    "a later disconnect of a later authorization": (Later(now - hour / 2, now - hour / 3), EndGrant, "expired"),
}


@pytest.mark.parametrize("case", since)
def test_what_was_done_since_an_authorization_counts_more_than_its_account(case: str) -> None:
    later, kind, reason = since[case]
    decision = decide_account(granted_an_hour_ago, account, existing, later, shares_grant=False)
    assert isinstance(decision, kind)
    if isinstance(decision, KeepNewer):
        ended = decision.change.authorization
        assert (ended.step, ended.connection_id, decision.change.facts) == (Step.connected, existing.id, ())
    if isinstance(decision, EndGrant):
        assert (decision.change.authorization.reason, decision.revokes) == (reason, True)


def test_a_connected_authorization_keeps_no_secret() -> None:
    connected = connect(granted, "c1").authorization
    assert (connected.step, connected.connection_id) == (Step.connected, "c1")
    assert (connected.tokens, connected.due_at, connected.lease_until) == (None, None, None)


redirects: dict[str, tuple[str, str, tuple[Step, str, str]]] = {
    "denied": ("access_denied", "", (Step.denied, "denied", "the user said no")),
    "denied, with words": ("access_denied", "No\x00!", (Step.denied, "denied", "No!")),
    "anything else": ("invalid\nscope", "", (Step.failed, "client_rejected", "the provider answered invalidscope")),
    "a long text": ("invalid_scope", "x" * 300, (Step.failed, "client_rejected", "x" * 200)),
    "a defect at the provider": ("server_error", "Oops", (Step.failed, "provider_unavailable", "Oops")),
    "a busy provider": ("temporarily_unavailable", "Wait", (Step.failed, "provider_unavailable", "Wait")),
    "a client that may not ask": ("unauthorized_client", "No", (Step.failed, "client_rejected", "No")),
    "a login that only a person can do": ("login_required", "No", (Step.failed, "client_rejected", "No")),
    "a cancelled login": ("user_cancelled_login", "", (Step.denied, "denied", "the user said no")),
    "a cancelled consent": ("user_cancelled_authorize", "", (Step.denied, "denied", "the user said no")),
    "a denied consent": ("consent_denied", "", (Step.denied, "denied", "the user said no")),
    "a user who denied": ("user_denied", "", (Step.denied, "denied", "the user said no")),
    "in capitals": ("USER_DENIED", "", (Step.denied, "denied", "the user said no")),
    "a name of the provider's own": ("no_thanks", "", (Step.denied, "denied", "the user said no")),
    "an outage by a name of its own": ("on_holiday", "Back soon", (Step.failed, "provider_unavailable", "Back soon")),
}


@pytest.mark.parametrize("case", redirects)
def test_an_error_in_the_redirect_ends_the_authorization(case: str) -> None:
    error, description, expected = redirects[case]
    aliases = {"no_thanks": "access_denied", "on_holiday": "temporarily_unavailable"}
    change = end_by_error(started, error, description, aliases)
    ended = change.authorization
    assert (ended.step, ended.reason, ended.description) == expected
    assert change.facts == (AuthorizationFailed("a1", expected[1], expected[2]),)  # type: ignore[arg-type]


waiting_for_the_user: dict[str, tuple[Authorization, bool]] = {
    "started": (started, True),
    "too late": (replace(started, expires_at=now), False),
    "used": (received, False),
    "denied": (replace(started, step=Step.denied), False),
}


@pytest.mark.parametrize("case", waiting_for_the_user)
def test_a_state_is_good_once_and_in_time(case: str) -> None:
    found, expected = waiting_for_the_user[case]
    assert awaits_user(found, now) is expected


too_late: dict[str, tuple[Authorization, bool]] = {
    "in time": (started, False),
    "late": (replace(started, expires_at=now), True),
    "ended because it was late": (replace(started, step=Step.failed, reason="expired"), True),
    "a code that became too old": (replace(received, step=Step.failed, reason="expired"), False),
    "connected": (replace(received, step=Step.connected), False),
    "denied": (replace(started, step=Step.denied, reason="denied"), False),
}


@pytest.mark.parametrize("case", too_late)
def test_a_user_is_late_only_without_having_come_back(case: str) -> None:
    found, expected = too_late[case]
    assert came_too_late(found, now) is expected


active = replace(existing, status=Status.active, generation=3)
in_use = Credential("c1", None, Sealed("v1.k.r"))
spent_perhaps = replace(in_use, presented_at=now, presented_generation=3)
refreshes_under_way: dict[str, tuple[Connection | None, Credential | None, Authorization, bool]] = {
    "none": (active, in_use, granted, False),
    "one": (active, spent_perhaps, granted, True),
    "one of an older generation": (active, replace(spent_perhaps, presented_generation=2), granted, False),
    "one, for as long as a code lives": (
        active,
        spent_perhaps,
        replace(granted, code_received_at=now - 10 * minute),
        False,
    ),
    "of another client": (replace(active, client_id="old"), spent_perhaps, granted, False),
    "of an ended connection": (existing, spent_perhaps, granted, False),
    "a new connection": (None, None, granted, False),
}


@pytest.mark.parametrize("case", refreshes_under_way)
def test_an_authorization_that_keeps_the_old_refresh_token_waits_for_its_refresh(case: str) -> None:
    before, credential, found, waits_for_it = refreshes_under_way[case]
    change = await_refresh(found, before, credential, now)
    assert (change is not None) is waits_for_it
    assert change is None or change.authorization.due_at == now + 3 * second


kept: dict[str, tuple[Connection, Credential | None, str, bool]] = {
    "the grant works": (active, in_use, "client", True),
    "it may be spent": (active, spent_perhaps, "client", False),
    "another client's": (active, in_use, "new client", False),
    "a revoked connection": (existing, in_use, "client", False),
    "there is none": (active, replace(in_use, refresh_token=None), "client", False),
    "no credential": (active, None, "client", False),
}


@pytest.mark.parametrize("case", kept)
def test_a_refresh_token_stays_in_use_only_if_it_still_works_for_this_client(case: str) -> None:
    connection, credential, client_id, expected = kept[case]
    assert (kept_refresh_token(connection, credential, client_id) is not None) is expected


refused_tokens: dict[str, tuple[timedelta | None, str]] = {
    "it never expires": (None, "access_revoked"),
    "it has an hour left": (hour, "access_revoked"),
    "it expires about now": (second, "refresh_expired"),
    "it expired": (-hour, "refresh_expired"),
}


@pytest.mark.parametrize("case", refused_tokens)
def test_a_token_that_nothing_refreshes_expires_and_is_not_revoked_by_its_user(case: str) -> None:
    left, expected = refused_tokens[case]
    connection = replace(active, expires_at=None if left is None else now + left)
    assert why_refused(connection, now) == expected


def decided(outcome: TokenOutcome, its_request: CodeRequest) -> ExchangeDecision:
    decision = decide_exchange(presented, its_request, outcome, deadline, now)
    assert decision is not None
    return decision
