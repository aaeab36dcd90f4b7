"""A token endpoint that speaks as others do: what becomes of connections and authorizations."""

import json
from typing import Any

import pytest

from models.oauth.authorization import Authorization
from tests.harness import House

one_database = pytest.mark.parametrize("house", ["sqlite"], indirect=True)
pair = {"access_token": "first", "refresh_token": "second"}
sentence = (
    "The provided authorization grant or refresh token is invalid, expired, revoked, or was issued to another client."
)


def say(house: House, status: int, body: dict[str, Any] | str, count: int | None = 1) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    house.control.inject("token", kind="garbage", status=status, body=text, count=count)


grants: dict[str, tuple[int, dict[str, Any] | str]] = {
    "201": (201, pair | {"token_type": "Bearer", "expires_in": 60}),
    "no type": (200, pair | {"token_type": None}),
    "a word for a type": (200, pair | {"token_type": "access"}),
    "a form": (200, "access_token=first&refresh_token=second&token_type=bearer"),
}


@one_database
@pytest.mark.parametrize("case", grants)
def test_a_pair_that_comes_otherwise_is_held(house: House, case: str) -> None:
    connection = house.refreshable()
    say(house, *grants[case])
    house.flows.refresh(connection.id)
    after = house.connection(connection.id)
    assert (after.status, after.generation, after.problem) == ("active", connection.generation + 1, None)


deaths: dict[str, tuple[int, dict[str, Any], str]] = {
    "with 200": (200, {"error": "bad_refresh_token"}, "access_revoked"),
    "with 403": (403, {"error": "invalid_grant"}, "access_revoked"),
    "with 422": (422, {"error": "invalid_grant"}, "access_revoked"),
    "in an object": (400, {"error": {"code": "invalid_grant", "message": "No"}}, "access_revoked"),
    "in the standard sentence": (400, {"error": "invalid_grant", "error_description": sentence}, "access_revoked"),
    "expired, by its hint": (401, {"error": "invalid_request", "hint": "Token has expired"}, "refresh_expired"),
}


@one_database
@pytest.mark.parametrize("case", deaths)
def test_a_dead_grant_ends_its_connection_however_it_is_said(house: House, case: str) -> None:
    status, body, reason = deaths[case]
    connection = house.refreshable()
    say(house, status, body)
    house.flows.refresh(connection.id)
    after = house.connection(connection.id)
    assert after.status == "revoked"
    assert (after.revoked_reason == "refresh_expired") is (reason == "refresh_expired")
    assert after.revoked_reason != "rotation_lost"


client_troubles: dict[str, tuple[int, dict[str, Any]]] = {
    "a wrong secret with 200": (200, {"error": "incorrect_client_credentials"}),
    "no header": (400, {"error": "invalid_request", "hint": "Check the `client_id` parameter"}),
    "an empty secret": (400, {"error": "invalid_request", "hint": "Check the `client_secret` parameter"}),
}


@one_database
@pytest.mark.parametrize("case", client_troubles)
def test_client_trouble_ends_nobody_and_is_told_to_the_operator(house: House, case: str) -> None:
    connection = house.refreshable()
    say(house, *client_troubles[case])
    house.flows.refresh(connection.id)
    after = house.connection(connection.id)
    assert (after.status, after.generation) == ("active", connection.generation)
    assert [told["error"] for told in house.told("provider.client_rejected")] == [client_troubles[case][1]["error"]]


def exchanged(house: House, status: int, body: dict[str, Any]) -> Authorization:
    authorization_id = house.consent("ada", house.control.add_user("Ada", documents=1))
    say(house, status, body)
    house.flows.exchange(authorization_id)
    with house.store.reading() as tx:
        found = tx.authorizations.get(authorization_id)
    assert found is not None
    return found


failures: dict[str, tuple[int, dict[str, Any], str]] = {
    "used twice, Passport 13": (
        400,
        {"error": "invalid_grant", "error_description": sentence, "hint": "Authorization code has been revoked"},
        "code_rejected",
    ),
    "expired": (400, {"error": "invalid_grant", "hint": "Authorization code has expired"}, "expired"),
    "dead with 200": (200, {"error": "bad_verification_code"}, "code_rejected"),
    "no client": (400, {"error": "invalid_request", "hint": "Check the `client_secret` parameter"}, "client_rejected"),
}


@one_database
@pytest.mark.parametrize("case", failures)
def test_an_exchange_fails_for_the_reason_that_was_given(house: House, case: str) -> None:
    status, body, reason = failures[case]
    exchanged(house, status, body)
    assert [told["reason"] for told in house.told("connection.authorization_failed")] == [reason]


def test_a_connection_has_the_scope_that_was_asked_for_and_keeps_it(house: House) -> None:
    connection = house.refreshable()
    assert connection.scope == "*"
    assert [told["scope"] for told in house.told("connection.authorized")] == ["*"]
    house.flows.refresh(connection.id)
    after = house.connection(connection.id)
    assert (after.generation, after.scope) == (connection.generation + 1, "*")


def test_a_token_that_never_expires_and_comes_alone_is_never_refreshed(house: House) -> None:
    account = house.control.add_user("Ada", documents=1)
    authorization_id = house.consent("ada", account)
    token = house.control.personal_token(account)
    say(house, 200, f"access_token={token}&scope=repo%2Cread%3Aorg&token_type=bearer")
    house.flows.exchange(authorization_id)
    house.work()
    [told] = house.told("connection.authorized")
    after = house.connection(told["connection_id"])
    assert (after.status, after.expires_at, after.refresh_due_at) == ("active", None, None)
    assert (told["expires_at"], told["scope"], house.types()[-1]) == (None, "repo,read:org", "sync.completed")
    house.turn(days=300)
    house.sweep()
    assert house.connection(after.id).status == "active"
    assert house.credential(after.id).refresh_token is None
