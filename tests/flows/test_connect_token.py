"""A personal access token as a connection: read like any other, never refreshed, gone with its first 401."""

from dataclasses import replace

import pytest

from models.crypto.secrets import Secret
from models.oauth.connection import Connection
from tests.flows.between import listed, stored
from tests.harness import House
from worker.oauth.personal_token import AccountUnknown, ConnectToken, TokenRefused


def connect_token(house: House, account: int, user: str = "ada", token: str | None = None) -> Connection:
    flow = ConnectToken(house.store, house.vault, house.flows.sync.providers, house.queue.send, house.clock)
    return flow("breezedoc", user, Secret(token or house.control.personal_token(account)))


def test_its_account_is_read_like_any_other_and_no_refresh_is_ever_due(house: House) -> None:
    connection = connect_token(house, 1)
    house.work()
    assert stored(house, connection.id) == set(listed(house, 1))
    assert house.types() == ["connection.authorized", "sync.completed"]
    [told] = house.told("connection.authorized")
    assert (told["account_id"], told["expires_at"], told["reauthorized"]) == ("1", None, False)
    after = house.connection(connection.id)
    assert (after.status, after.client_id, after.refresh_due_at) == ("active", "personal-access-token", None)
    with house.store.writing() as tx:
        assert not tx.connections.make_refresh_due(connection.id, house.clock())
    house.flows.refresh(connection.id)
    assert house.control.counters()["token_requests"] == {}


def test_a_disconnect_is_told_at_once_for_no_client_could_revoke_it(house: House) -> None:
    client = house.flows.sync.providers["breezedoc"]
    client.provider = replace(client.provider, revoke_url=f"{house.provider.url}/oauth/revoke")
    connection = connect_token(house, 1)
    house.work()
    house.flows.disconnect(connection.id)
    [told] = house.told("connection.disconnected")
    assert told["revoked_upstream"] is False
    assert house.credential(connection.id).access_token is None


def test_its_token_is_sealed(house: House) -> None:
    token = house.control.personal_token(1)
    connection = connect_token(house, 1, token=token)
    credential = house.credential(connection.id)
    assert credential.access_token is not None
    assert token not in credential.access_token.text
    assert credential.refresh_token is None


def test_a_401_ends_it_at_once(house: House) -> None:
    connection = connect_token(house, 1)
    house.work()
    house.control.revoke_user(1)
    house.turn(minutes=16)
    house.sweep()
    after = house.connection(connection.id)
    assert (after.status, after.revoked_reason) == ("revoked", "access_revoked")
    assert house.credential(connection.id).access_token is None
    [event] = house.told("connection.reauthorization_required")
    assert (event["reason"], event["detected_by"]) == ("access_revoked", "api")
    with house.store.reading() as tx:
        run = tx.runs.newest(connection.id)
    assert run is not None
    assert (run.status, run.reason, run.lease_until) == ("ended", "access_revoked", None)
    house.turn(minutes=16)
    house.sweep()
    assert house.types().count("connection.reauthorization_required") == 1


def test_the_same_account_again_revives_the_same_connection_whichever_way(house: House) -> None:
    first = connect_token(house, 1)
    house.work()
    house.control.revoke_user(1)
    house.turn(minutes=16)
    house.sweep()
    again = connect_token(house, 1)
    house.work()
    assert (again.id, again.status, again.generation) == (first.id, "active", 2)
    by_oauth = house.connect("ada", 1)
    house.work()
    assert (by_oauth.id, by_oauth.client_id) == (first.id, "sandbox-client")
    assert by_oauth.refresh_due_at is not None
    back = connect_token(house, 1)
    house.work()
    assert (back.id, back.refresh_due_at) == (first.id, None)
    assert house.credential(first.id).refresh_token is None
    assert [event["created"] for event in counts(house)] == [12, 0, 0, 0]


def counts(house: House) -> list[dict[str, int]]:
    return [event["resources"]["document"] for event in house.told("sync.completed")]


def test_disconnecting_erases_it(house: House) -> None:
    connection = connect_token(house, 1)
    house.work()
    house.flows.disconnect(connection.id)
    assert house.credential(connection.id).access_token is None
    assert house.connection(connection.id).status == "disconnected"


def test_a_token_that_is_refused_changes_nothing(house: House) -> None:
    with pytest.raises(TokenRefused, match="401"):
        connect_token(house, 1, token="no-such-token")
    house.control.set_plan(1, "free")
    with pytest.raises(TokenRefused, match="403"):
        connect_token(house, 1)
    house.control.inject("api", status=503)
    with pytest.raises(AccountUnknown):
        connect_token(house, 2)
    with house.store.reading() as tx:
        assert tx.connections.find() == []
    assert house.told() == []


def test_an_oauth_grant_without_a_refresh_token_ends_with_its_first_401_as_well(house: House) -> None:
    connection = house.connect("ada", 1)
    house.work()
    with house.store.writing() as tx:
        credential = tx.credentials.get(connection.id)
        assert credential is not None
        tx.credentials.put(replace(credential, refresh_token=None))
    house.control.revoke_user(1)
    house.flows.sync(connection.id)
    assert house.connection(connection.id).revoked_reason == "access_revoked"
