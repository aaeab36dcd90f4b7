"""Who says that a browser is the link's user's, and what each answer changes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from models.crypto.secrets import Sealed, Secret
from models.messaging.commands import Confirm
from models.messaging.events import AuthorizationFailed
from models.oauth.authorization import (
    Authorization,
    AuthorizationChange,
    Confirmation,
    Step,
    awaits_application,
    awaits_click,
    fail,
    hash_of,
    receive_code,
    state_of,
)
from models.oauth.confirmation import (
    ConfirmDecision,
    Verdict,
    choose_mode,
    confirmation_of,
    decide_click,
    decide_confirm,
    form_token_of,
)
from models.oauth.exchange_outcome import PresentCode, plan_exchange

now = datetime(2026, 11, 27, 12, tzinfo=UTC)
minute = timedelta(minutes=1)
binding = "b" * 43
value = confirmation_of(binding)
right = Confirm("a1", "ada", Secret(value))

opened = Authorization(
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
    return_to="https://app.example/",
    confirmation=Confirmation.application,
)
kept = receive_code(opened, Sealed("v1.k.c"), now, hash_of(value))
short = receive_code(opened, Sealed("v1.k.c"), now, hash_of(value), 90)
long = receive_code(opened, Sealed("v1.k.c"), now, hash_of(value), 1_800)
confirmed = replace(kept, confirmed_at=now, due_at=now)
page = replace(opened, confirmation=Confirmation.page)
clicked = replace(page, confirmed_at=now)

modes = {
    "application": (Confirmation.application, "https://app.example/", Confirmation.application),
    "application, and nowhere to return to": (Confirmation.application, None, Confirmation.page),
    "page": (Confirmation.page, "https://app.example/", Confirmation.page),
    "page, and nowhere to return to": (Confirmation.page, None, Confirmation.page),
    "off": (Confirmation.off, "https://app.example/", Confirmation.off),
    "off, and nowhere to return to": (Confirmation.off, None, Confirmation.off),
}


@pytest.mark.parametrize("case", modes)
def test_the_application_confirms_only_what_leads_back_to_it(case: str) -> None:
    configured, return_to, expected = modes[case]
    assert choose_mode(configured, return_to) is expected


answers: dict[str, tuple[Authorization | None, Confirm, timedelta, Verdict]] = {
    "the right value and user": (kept, right, minute, Verdict.accepted),
    "at the last moment": (kept, right, 10 * minute - timedelta(microseconds=1), Verdict.accepted),
    "when the code is too old": (kept, right, 10 * minute, Verdict.refused),
    "a short code": (short, right, timedelta(seconds=89), Verdict.accepted),
    "when a short code is too old": (short, right, timedelta(seconds=90), Verdict.refused),
    "a long code": (long, right, 20 * minute, Verdict.accepted),
    "another user": (kept, replace(right, user_id="mallory"), minute, Verdict.refused),
    "a user id that begins alike": (kept, replace(right, user_id="ad"), minute, Verdict.refused),
    "a wrong value": (kept, replace(right, confirmation=Secret(value[:-1])), minute, Verdict.refused),
    "the stored hash": (kept, replace(right, confirmation=Secret(hash_of(value))), minute, Verdict.refused),
    "another browser's value": (
        kept,
        replace(right, confirmation=Secret(confirmation_of("c"))),
        minute,
        Verdict.refused,
    ),
    "half a character": (kept, replace(right, confirmation=Secret("\ud800")), minute, Verdict.refused),
    "a second time": (confirmed, right, minute, Verdict.repeated),
    "a wrong one after the right one": (confirmed, replace(right, user_id="eve"), minute, Verdict.not_awaited),
    "after the tokens came": (replace(confirmed, step=Step.granted), right, minute, Verdict.repeated),
    "after it was connected": (replace(confirmed, step=Step.connected), right, minute, Verdict.repeated),
    "after a wrong one": (fail(kept, "not_confirmed", "no").authorization, right, minute, Verdict.not_awaited),
    "before the code": (opened, right, minute, Verdict.not_awaited),
    "our page asks": (receive_code(clicked, Sealed("v1.k.c"), now), right, minute, Verdict.not_awaited),
    "nothing is asked": (
        receive_code(replace(opened, confirmation=Confirmation.off), Sealed("c"), now),
        right,
        minute,
        Verdict.not_awaited,
    ),
    "no authorization": (None, right, minute, Verdict.unknown),
}


@pytest.mark.parametrize("case", answers)
def test_a_code_leaves_only_for_the_user_and_value_it_was_kept_for(case: str) -> None:
    found, given, after, expected = answers[case]
    decision = decide_confirm(found, given, now + after)
    assert decision.verdict is expected
    match decision:
        case ConfirmDecision(Verdict.accepted, change):
            assert found is not None
            assert change is not None
            assert change.authorization == replace(found, confirmed_at=now + after, due_at=now + after)
            assert change.facts == ()
            plan = plan_exchange(change.authorization, "me", minute, now + after)
            assert isinstance(plan, PresentCode)
        case ConfirmDecision(Verdict.refused, change):
            assert_ended(change)
        case _:
            assert decision.change is None


def assert_ended(change: object) -> None:
    """It has failed as `not_confirmed`, with its event, and no secret is left in it."""
    assert isinstance(change, AuthorizationChange)
    ended = change.authorization
    assert (ended.step, ended.reason) == (Step.failed, "not_confirmed")
    assert (ended.code, ended.verifier, ended.tokens, ended.due_at) == (None, None, None, None)
    assert change.facts == (AuthorizationFailed("a1", "not_confirmed", ended.description or ""),)


def test_a_kept_code_waits_for_the_end_of_its_life_and_no_longer() -> None:
    assert (awaits_application(kept), kept.due_at) == (True, now + 10 * minute)
    assert plan_exchange(kept, "me", minute, now + 10 * minute - timedelta(seconds=1)) is None
    assert plan_exchange(replace(kept, due_at=now), "me", minute, now + minute) is None, "asked for too early"
    plan = plan_exchange(kept, "me", minute, now + 10 * minute, kept_until=now + 11 * minute)
    assert_ended(plan)


clicks = {
    "yes": (page, True, minute, Verdict.accepted),
    "yes again": (clicked, True, minute, Verdict.repeated),
    "no": (page, False, minute, Verdict.refused),
    "yes, back, and no": (clicked, False, minute, Verdict.refused),
    "too late": (page, True, 10 * minute, Verdict.not_awaited),
    "after the code": (receive_code(clicked, Sealed("v1.k.c"), now), False, minute, Verdict.not_awaited),
    "the application confirms": (opened, True, minute, Verdict.not_awaited),
    "nothing is asked": (replace(page, confirmation=Confirmation.off), False, minute, Verdict.not_awaited),
}


@pytest.mark.parametrize("case", clicks)
def test_a_click_counts_while_the_browser_is_not_back_from_the_provider(case: str) -> None:
    found, is_user, after, expected = clicks[case]
    decision = decide_click(found, is_user, now + after)
    assert decision.verdict is expected
    if expected is Verdict.accepted:
        assert decision.change is not None
        assert decision.change.authorization == replace(found, confirmed_at=now + after)
        assert not awaits_click(decision.change.authorization)
    elif expected is Verdict.refused:
        assert_ended(decision.change)
    else:
        assert decision.change is None


def test_what_a_browser_brings_shows_nothing_of_what_else_it_has() -> None:
    derived = {state_of(binding), confirmation_of(binding), form_token_of(binding)}
    assert len(derived) == 3
    assert {len(text) for text in derived} == {43}
