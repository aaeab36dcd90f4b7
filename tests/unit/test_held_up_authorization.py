"""A connect that fails again and again gives its reason while it goes on, and loses it with the next step."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from models.api_response import Failed, Throttled
from models.crypto.secrets import Secret
from models.oauth.authorization import Authorization, Step, describe_result, grant, hold_up
from models.oauth.exchange_outcome import connect, decide_without_account
from models.oauth.token_pair import TokenPair
from models.oauth.token_response import TokensGranted

now = datetime(2026, 11, 24, 12, tzinfo=UTC)
tokens = TokenPair(TokensGranted(Secret("access"), Secret("refresh"), None, None), now)
granted = Authorization(
    id="a",
    provider="p",
    client_id="c",
    user_id="ada",
    redirect_uri="https://x/",
    step=Step.granted,
    state_hash="s",
    browser_hash="b",
    created_at=now,
    expires_at=now,
    code_received_at=now,
)


def test_a_failing_account_request_gives_its_reason_and_stays_open() -> None:
    for outcome, text in ((Failed("HTTP 503"), "HTTP 503"), (Throttled(timedelta(seconds=9)), "429")):
        change = decide_without_account(granted, outcome, "P", tokens, now)
        assert change.authorization.step is Step.granted
        assert change.authorization.reason == "provider_unavailable"
        assert text in (change.authorization.description or "")
        assert describe_result(change.authorization) == {"status": "pending", "reason": None, "connection_id": None}


def test_the_reason_goes_with_the_next_step() -> None:
    held = hold_up(granted, "HTTP 503")
    for after in (grant(replace(held, step=Step.received), now), connect(held, "c1").authorization):
        assert (after.reason, after.description) == (None, None)
