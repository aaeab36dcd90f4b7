"""What a provider's redirect may do that names no state, or another issuer."""

from datetime import UTC, datetime, timedelta

import pytest

from models.messaging.events import AuthorizationFailed
from models.oauth.authorization import (
    Authorization,
    Step,
    comes_without_state,
    end_by_stateless_error,
    is_issuer,
)

now = datetime(2026, 1, 1, tzinfo=UTC)
ours = Authorization(
    id="a" * 32,
    provider="breezedoc",
    client_id="client",
    user_id="ada",
    redirect_uri="https://sync.example/auth/breezedoc/callback",
    step=Step.started,
    state_hash="s",
    browser_hash="b",
    created_at=now,
    expires_at=now + timedelta(minutes=10),
)


@pytest.mark.parametrize(
    ("expected", "given", "is_it"),
    [
        ("https://issuer.example", "https://issuer.example", True),
        ("https://issuer.example", "https://evil.example", False),
        ("https://issuer.example", "https://issuer.example/", False),
        ("https://issuer.example", "", False),
        ("", "", True),
        ("", "https://anyone.example", True),
    ],
    ids=["the same", "another", "nearly the same", "missing", "none and none", "one that no one expects"],
)
def test_a_provider_that_has_an_issuer_names_it(expected: str, given: str, is_it: bool) -> None:
    assert is_issuer(expected, given) is is_it


@pytest.mark.parametrize(
    ("error", "does"),
    [("invalid_scope", True), ("bad_scope", True), ("access_denied", False), ("server_error", False), ("", False)],
)
def test_only_a_refused_scope_comes_without_a_state(error: str, does: bool) -> None:
    assert comes_without_state(error, {"bad_scope": "invalid_scope"}) is does


def test_an_error_without_a_state_ends_the_flow_in_words_of_ours() -> None:
    change = end_by_stateless_error(ours)
    assert (change.authorization.step, change.authorization.reason) == (Step.failed, "client_rejected")
    assert change.authorization.description == "the provider answered invalid_scope"
    [fact] = change.facts
    assert fact == AuthorizationFailed(ours.id, "client_rejected", "the provider answered invalid_scope")
