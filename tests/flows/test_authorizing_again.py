"""A user who authorizes again: the same connection goes on, with its data, its history and its counters."""

import threading
from dataclasses import replace
from typing import Any

import pytest

from models.api_response import Failed
from models.oauth.connection import Connection
from models.store.connections import Connections
from tests.databases import both_databases
from tests.harness import House
from tests.servers import wait_until


def end_by_user(house: House, connection_id: str, account: int = 1) -> None:
    house.control.revoke_user(account)
    house.make_refresh_due(connection_id)
    house.flows.refresh(connection_id)
    house.work()


def works(house: House, connection_id: str) -> bool:
    """Whether the pair that is held is the live one: it refreshes."""
    before = house.connection(connection_id).generation
    house.make_refresh_due(connection_id)
    house.sweep()
    return house.connection(connection_id).generation == before + 1


def test_a_revoked_connection_comes_back_with_all_it_had(house: House) -> None:
    connection = house.connect("ada", 1, team_ids=(1, 2))
    house.work()
    end_by_user(house, connection.id)
    ended = house.connection(connection.id)
    assert ended.status == "revoked"
    with house.store.reading() as tx:
        records, events = tx.records.count(connection.id), len(house.told(connection_id=connection.id))
    told_before = len(house.decisions(connection.id))
    again = house.connect("ada", 1, connection_id=connection.id)
    house.work()
    assert (again.id, again.status, again.generation) == (connection.id, "active", ended.generation + 1)
    assert (again.revoked_at, again.revoked_reason, again.problem) == (None, None, None)
    assert again.created_at == connection.created_at
    assert again.team_ids == (1, 2), "a link that names no teams keeps those that were named"
    with house.store.reading() as tx:
        assert tx.records.count(connection.id) == records
    assert len(house.decisions(connection.id)) > told_before
    own = house.told(connection_id=connection.id)
    assert len(own) > events
    sequences = [event["sequence"] for event in own if not event["type"].startswith("record.")]
    assert sequences == list(range(1, len(sequences) + 1))
    assert house.told("sync.completed")[-1]["resources"]["document"]["created"] == 0
    assert [event["reauthorized"] for event in house.told("connection.authorized")] == [False, True]
    assert works(house, connection.id)


def test_a_disconnected_connection_comes_back_as_the_same_without_being_named(house: House) -> None:
    connection = house.connect("ada", 1)
    house.queue.held.clear()
    house.flows.disconnect(connection.id)
    again = house.connect("ada", 1)
    assert (again.id, again.status, again.generation) == (connection.id, "active", 2)
    assert works(house, connection.id)


def test_teams_and_address_are_those_of_the_newest_authorization(house: House) -> None:
    connection = house.connect("ada", 1, team_ids=(1, 2))
    house.queue.held.clear()
    body = '{"id": 1, "email": "ada@new.example"}'
    house.control.inject("api", moment="after", kind="garbage", body=body, match={"path": "/api/me"})
    again = house.connect("ada", 1, team_ids=(2, 3), connection_id=connection.id)
    assert (again.team_ids, again.email) == ((2, 3), "ada@new.example")
    assert house.told("connection.authorized")[-1]["email"] == "ada@new.example"


def test_another_account_leaves_everything_as_it_was(house: House) -> None:
    connection = house.connect("ada", 1)
    house.work()
    before = house.connection(connection.id), house.credential(connection.id)
    authorization_id = house.consent("ada", 2, connection_id=connection.id)
    house.work()
    with house.store.reading() as tx:
        found = tx.authorizations.get(authorization_id)
    assert found is not None
    assert (found.step, found.reason, found.tokens) == ("failed", "account_mismatch", None)
    assert (house.connection(connection.id), house.credential(connection.id)) == before
    assert [event["reason"] for event in house.told("connection.authorization_failed")] == ["account_mismatch"]
    assert works(house, connection.id)


def test_a_revoked_connection_is_not_revived_by_another_account(house: House) -> None:
    connection = house.connect("ada", 1)
    house.work()
    end_by_user(house, connection.id)
    house.consent("ada", 2, connection_id=connection.id)
    house.work()
    assert house.connection(connection.id).status == "revoked"


@both_databases
def test_two_browsers_that_connect_one_account_at_the_same_moment_make_one_connection(house: House) -> None:
    authorizations = [house.consent("ada", 1) for _ in range(2)]
    house.queue.held.clear()
    gate = threading.Barrier(2)

    def exchange(authorization_id: str) -> None:
        gate.wait(20)
        house.flows.exchange(authorization_id)

    threads = [threading.Thread(target=exchange, args=(each,)) for each in authorizations]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with house.store.reading() as tx:
        found = [tx.authorizations.get(each) for each in authorizations]
        [connection] = tx.connections.find(user_id="ada")
    assert [each.connection_id for each in found if each is not None] == [connection.id] * 2
    assert connection.generation == 2
    assert [event["reauthorized"] for event in house.told("connection.authorized")] == [False, True]
    assert works(house, connection.id)


@both_databases
def test_a_refresh_that_is_saved_while_the_new_account_is_asked_for_is_history(house: House) -> None:
    connection = house.connect("ada", 1)
    house.work()
    house.make_refresh_due(connection.id)
    authorization_id = house.consent("ada", 1, connection_id=connection.id)
    client = house.flows.exchange.providers["breezedoc"]

    class Between:
        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def read_account(self, *asked: Any) -> Any:
            called = client.read_account(*asked)
            house.flows.refresh(connection.id)
            house.work()
            return called

    house.queue.held.clear()
    between: Any = {"breezedoc": Between()}
    replace(house.flows.exchange, providers=between)(authorization_id)
    assert house.connection(connection.id).generation == connection.generation + 2
    types = [t for t in house.types() if t.startswith("connection.")]
    assert types == ["connection.authorized", "connection.refreshed", "connection.authorized"]
    assert works(house, connection.id)


class Away:
    """A provider's client whose API does not answer whose account it is."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def read_account(self, *asked: Any) -> Any:
        return replace(self.client.read_account(*asked), outcome=Failed("away"))


def exchange_while_the_api_is_away(house: House, **claims: Any) -> str:
    """Exchange ada's code for tokens; whose account they open is not known yet."""
    authorization_id = house.consent("ada", 1, **claims)
    away: Any = {"breezedoc": Away(house.flows.exchange.providers["breezedoc"])}
    replace(house.flows.exchange, providers=away)(authorization_id)
    house.queue.held.clear()
    return authorization_id


@both_databases
def test_an_account_that_is_read_late_does_not_replace_what_the_user_authorized_since(house: House) -> None:
    late = exchange_while_the_api_is_away(house, team_ids=(1,))
    house.turn(minutes=1)
    connection = house.connect("ada", 1, team_ids=(2,))
    house.work()
    before = house.credential(connection.id)
    house.turn(hours=1)
    house.sweep()
    with house.store.reading() as tx:
        found = tx.authorizations.get(late)
        verbs = [each.verb for each in tx.journal.decisions_of(late)]
    assert found is not None
    assert (found.step, found.connection_id, found.tokens) == ("connected", connection.id, None)
    assert verbs[-1] == "exchange.superseded"
    assert house.connection(connection.id).team_ids == (2,)
    assert house.credential(connection.id) == before
    assert len(house.told("connection.authorized")) == 1
    assert works(house, connection.id)


@both_databases
def test_a_disconnect_stands_when_an_account_is_read_late(house: House) -> None:
    connection = house.connect("ada", 1)
    house.work()
    late = exchange_while_the_api_is_away(house)
    house.turn(minutes=11)
    house.flows.disconnect(connection.id)
    house.turn(hours=1)
    house.sweep()
    with house.store.reading() as tx:
        found = tx.authorizations.get(late)
    assert found is not None
    assert (found.step, found.reason, found.tokens) == ("failed", "expired", None)
    assert house.connection(connection.id).status == "disconnected"
    assert house.connect("ada", 1).id == connection.id


@pytest.mark.parametrize("database", ["postgresql"])
def test_of_two_users_who_connect_one_account_at_once_the_second_is_told_of_the_first(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = house.consent("ada", 1), house.consent("bob", 1)
    find = Connections.others_of_account
    thread = threading.Thread(target=house.flows.exchange, args=(second,))

    def find_and_let_the_second_come(self: Connections, connection: Connection) -> tuple[str, ...]:
        found = find(self, connection)
        if thread.ident is None:
            thread.start()
            wait_until(lambda: not thread.is_alive() or house.waits_for_a_lock(), "the second waits or is done")
        return found

    monkeypatch.setattr(Connections, "others_of_account", find_and_let_the_second_come)
    house.flows.exchange(first)
    thread.join()
    told = {event["user_id"]: event["also_connected_by"] for event in house.told("connection.authorized")}
    assert told == {"ada": [], "bob": ["ada"]}
