"""Connecting at a provider that issues a refresh token only once, or whose API does not know a new token yet."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import sandbox
from models.crypto.secrets import Secret
from models.oauth.authorization import Authorization
from models.oauth.credential import place_of_token
from models.oauth.token_response import TokensGranted
from models.store.rows import table_of
from models.store.tables import RevocationRow
from tests.harness import House, build_house


class WithoutRefreshToken:
    """A provider's client whose code exchanges bring an access token only."""

    def __init__(self, client: Any, **changes: Any) -> None:
        self.client, self.changes = client, {"refresh_token": None, **changes}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def exchange_code(self, *asked: Any) -> Any:
        called = self.client.exchange_code(*asked)
        assert isinstance(called.outcome, TokensGranted)
        return replace(called, outcome=replace(called.outcome, **self.changes))


def authorize(house: House, **changes: Any) -> Authorization:
    """Connect ada's account by an exchange that brings no refresh token."""
    authorization_id = house.consent("ada", 1)
    house.queue.held.clear()
    client: Any = WithoutRefreshToken(house.flows.exchange.providers["breezedoc"], **changes)
    replace(house.flows.exchange, providers={"breezedoc": client})(authorization_id)
    return found(house, authorization_id)


def found(house: House, authorization_id: str) -> Authorization:
    with house.store.reading() as tx:
        authorization = tx.authorizations.get(authorization_id)
    assert authorization is not None
    return authorization


@pytest.fixture
def revoking(migrated_url: str, provider: sandbox.Running, tmp_path: Path) -> Iterator[House]:
    """A house whose provider has a revocation endpoint, which nothing here calls."""
    built = build_house(migrated_url, provider, tmp_path / "spool", BREEZEDOC_REVOKE_URL="http://127.0.0.1:1/revoke")
    yield built
    built.close()


def count_revocations(house: House) -> int:
    with house.store.reading() as tx:
        return len(tx.sql.execute(table_of(RevocationRow).select()).all())


def refresh_token_of(house: House, connection_id: str) -> Secret:
    sealed = house.credential(connection_id).refresh_token
    assert sealed is not None
    return house.vault.open(sealed, place_of_token(house.connection(connection_id), "refresh_token"))


def test_authorizing_again_without_a_refresh_token_keeps_the_one_that_works(house: House) -> None:
    connection = house.connect("ada", 1)
    house.work()
    kept = refresh_token_of(house, connection.id)
    assert authorize(house).connection_id == connection.id
    again = house.connection(connection.id)
    assert (again.generation, refresh_token_of(house, connection.id)) == (2, kept)
    assert again.refresh_due_at is not None
    house.make_refresh_due(connection.id)
    house.sweep()
    assert (house.connection(connection.id).status, house.connection(connection.id).generation) == ("active", 3)


def test_authorizing_again_after_a_revocation_keeps_no_dead_refresh_token(house: House) -> None:
    connection = house.connect("ada", 1)
    house.work()
    house.control.revoke_user(1)
    house.make_refresh_due(connection.id)
    house.flows.refresh(connection.id)
    assert house.connection(connection.id).status == "revoked"
    authorize(house)
    assert (house.connection(connection.id).status, house.credential(connection.id).refresh_token) == ("active", None)
    assert house.connection(connection.id).refresh_due_at is None


def test_a_refresh_under_way_decides_first_which_refresh_token_stays(house: House) -> None:
    connection = house.refreshable()
    provider = house.flows.refresh.providers["breezedoc"]
    waiting = []

    class During:
        """Connects again after the refresh token has left, before its answer is saved."""

        def __getattr__(self, name: str) -> Any:
            return getattr(provider, name)

        def refresh(self, *asked: Any) -> Any:
            called = provider.refresh(*asked)
            waiting.append(authorize(house))
            return called

    during: Any = {"breezedoc": During()}
    replace(house.flows.refresh, providers=during)(connection.id)
    assert [each.step for each in waiting] == ["granted"]
    house.turn(seconds=4)
    house.sweep()
    connected = house.connection(connection.id)
    assert found(house, waiting[0].id).step == "connected"
    assert (connected.status, connected.generation) == ("active", connection.generation + 2)
    house.make_refresh_due(connection.id)
    house.sweep()
    assert house.connection(connection.id).generation == connection.generation + 3
    assert house.presentations() == 1


def test_a_token_that_nothing_refreshes_ends_as_expired(house: House) -> None:
    authorization = authorize(house, expires_in=timedelta(hours=1))
    assert authorization.connection_id is not None
    house.work()
    house.turn(hours=1.1)
    house.control.revoke_user(1)
    house.flows.sync(authorization.connection_id)
    assert house.connection(authorization.connection_id).revoked_reason == "refresh_expired"
    [event] = house.told("connection.reauthorization_required")
    assert (event["reason"], event["detected_by"]) == ("refresh_expired", "api")


def test_a_token_that_nothing_refreshes_and_that_its_user_took_back_ends_as_revoked(house: House) -> None:
    authorization = authorize(house, expires_in=timedelta(hours=1))
    assert authorization.connection_id is not None
    house.work()
    house.control.revoke_user(1)
    house.flows.sync(authorization.connection_id)
    assert house.connection(authorization.connection_id).revoked_reason == "access_revoked"


@pytest.mark.parametrize("refusals", [1, 3])
def test_an_api_that_does_not_know_the_new_token_yet_is_asked_again(house: House, refusals: int) -> None:
    house.control.inject("api", status=401, count=refusals, match={"path": "/api/me"})
    authorization_id = house.consent("ada", 1)
    house.work()
    for _ in range(refusals):
        assert found(house, authorization_id).step == "granted"
        house.turn(seconds=1)
        house.sweep()
    assert found(house, authorization_id).step == "connected"
    assert house.told("connection.authorization_failed") == []


def test_an_api_that_refuses_for_ten_seconds_fails_and_the_grant_is_revoked(revoking: House) -> None:
    house = revoking
    house.control.inject("api", status=401, count=None, match={"path": "/api/me"})
    authorization_id = house.consent("ada", 1)
    house.work()
    house.turn(seconds=9)
    house.sweep()
    assert found(house, authorization_id).step == "granted"
    house.turn(seconds=2)
    house.queue.held.clear()
    house.flows.exchange(authorization_id)
    assert (found(house, authorization_id).step, found(house, authorization_id).reason) == ("failed", "code_rejected")
    assert found(house, authorization_id).tokens is None
    assert count_revocations(house) == 1


def test_a_plan_without_an_api_has_its_grant_revoked_unless_the_user_has_another_connection(revoking: House) -> None:
    house = revoking
    house.control.inject("api", status=403, count=2, match={"path": "/api/me"})
    for user, revoked in (("ada", 1), ("ada", 2)):
        authorization_id = house.consent(user, 1)
        house.queue.held.clear()
        house.flows.exchange(authorization_id)
        assert found(house, authorization_id).reason == "denied"
        assert count_revocations(house) == revoked
    house.connect("ada", 1)
    house.control.inject("api", status=403, match={"path": "/api/me"})
    authorization_id = house.consent("ada", 2)
    house.queue.held.clear()
    house.flows.exchange(authorization_id)
    assert (found(house, authorization_id).reason, count_revocations(house)) == ("denied", 2)


def test_tokens_that_come_after_their_authorization_was_given_up_are_revoked(revoking: House) -> None:
    house = revoking
    authorization_id = house.consent("ada", 1)
    house.queue.held.clear()
    client = house.flows.exchange.providers["breezedoc"]

    class Slow:
        """Answers when the code's time is long over, and another worker has given the authorization up."""

        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def exchange_code(self, *asked: Any) -> Any:
            called = client.exchange_code(*asked)
            house.clock.turn(timedelta(minutes=11))
            house.flows.exchange(authorization_id)
            return called

    slow: Any = {"breezedoc": Slow()}
    replace(house.flows.exchange, providers=slow)(authorization_id)
    assert (found(house, authorization_id).reason, count_revocations(house)) == ("answer_lost", 1)
