"""An API that refuses many tokens at once that nothing can refresh: few end, the rest is held, and goes on later.

Few refusals of a client are believed at once; here two are few.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from models.oauth.connection import Connection
from tests.flows.test_breaker import pass_time
from tests.flows.test_client_trouble import statuses
from tests.flows.test_connect_token import connect_token
from tests.flows.test_hold import problems
from tests.harness import House
from worker.oauth.hold import HoldByOperator

quarter = 15 * 60
minute = timedelta(minutes=1)


def connect_by_grant(house: House, account: int, user: str) -> Connection:
    """Connect by OAuth, with an answer that had no refresh token."""
    connection = house.connect(user, account)
    with house.store.writing() as tx:
        found = tx.credentials.get(connection.id)
        assert found is not None
        tx.credentials.put(replace(found, refresh_token=None))
        tx.connections.save(replace(connection, refresh_due_at=None), connection.generation)
    return house.connection(connection.id)


ways: dict[str, tuple[Callable[..., Connection], str]] = {
    "personal token": (connect_token, "personal-access-token"),
    "grant without a refresh token": (connect_by_grant, "sandbox-client"),
}


def connect_many(house: House, way: str = "personal token", count: int = 6) -> list[Connection]:
    """Connections without a refresh token, read once; more than two refusals of one client are many."""
    connect, _ = ways[way]
    found = [connect(house, 1 + number % 2, user=f"user {number}") for number in range(count)]
    client = house.flows.sync.providers["breezedoc"]
    client.provider = house.profile = replace(client.provider, mass_refusal_count=2, mass_refusal_share=0.1)
    house.work()
    return found


def still_active(house: House, connections: list[Connection]) -> list[Connection]:
    return [each for each in connections if house.connection(each.id).status == "active"]


def told_to_authorize(house: House) -> int:
    return len(house.told("connection.reauthorization_required"))


@pytest.mark.parametrize("way", ways)
def test_the_rest_is_held_and_the_first_good_one_releases_all(house: House, way: str) -> None:
    connections = connect_many(house, way)
    house.control.replace_keys()
    pass_time(house, 3 * quarter, step=60)
    held = still_active(house, connections)
    assert len(held) == 4
    assert set(problems(house, held)) == {"held"}
    assert told_to_authorize(house) == 2
    [event] = house.told("provider.mass_refusal")
    assert (event["client_id"], event["decision"], event["refused"]) == (ways[way][1], "held", 3)
    assert all(house.credential(each.id).access_token is not None for each in held)
    house.control.restore_keys()
    pass_time(house, 3 * quarter, step=60)
    assert set(problems(house, held)) == {None}
    assert statuses(house, held) == {"active"}
    assert told_to_authorize(house) == 2
    assert [event["decision"] for event in house.told("provider.mass_refusal_ended")] == ["recovered"]
    restored_at = house.clock() - 3 * minute * 15
    assert all((house.connection(each.id).last_synced_at or each.created_at) > restored_at for each in held)
    assert house.told("sync.failed") == []


def test_few_that_revoke_are_told_at_once(house: House) -> None:
    connections = connect_many(house)
    house.control.revoke_user(1)
    client = house.flows.sync.providers["breezedoc"]
    client.provider = replace(client.provider, mass_refusal_count=3)
    pass_time(house, quarter + 120, step=60)
    ended = {each.id for each in connections if house.connection(each.id).status == "revoked"}
    assert ended == {each.id for each in connections if each.account_id == "1"}
    assert told_to_authorize(house) == len(ended)


def test_a_held_one_is_not_asked_about_but_one_at_a_time_and_noted_once(house: House) -> None:
    connections = connect_many(house)
    house.control.replace_keys()
    pass_time(house, 2 * quarter, step=60)
    held, before = still_active(house, connections), house.clock()
    pass_time(house, 3 * 3600, step=120)
    with house.store.reading() as tx:
        calls = [call for each in held for call in tx.journal.calls_of(each.id, limit=100) if call.at > before]
    assert 10 <= len(calls) <= 15, "one connection is tried for all, ever more slowly"
    for connection in held:
        verbs = [decision.verb for decision in house.decisions(connection.id)]
        assert verbs.count("refusal.held") == 1


def test_an_operator_accepts_and_each_user_is_told(house: House) -> None:
    connections = connect_many(house)
    house.control.replace_keys()
    pass_time(house, 2 * quarter, step=60)
    assert HoldByOperator(house.store, house.profile).accept("personal-access-token") == 4
    assert statuses(house, connections) == {"revoked"}
    assert {event["reason"] for event in house.told("connection.reauthorization_required")} == {"access_revoked"}


def test_what_is_released_and_refused_again_ends(house: House) -> None:
    connections = connect_many(house, count=3)
    house.control.revoke_user(1)
    house.control.revoke_user(2)
    pass_time(house, 2 * quarter, step=60)
    assert problems(house, still_active(house, connections)) == ["held"]
    client = house.flows.sync.providers["breezedoc"]
    client.provider = house.profile = replace(client.provider, mass_refusal_count=10)
    HoldByOperator(house.store, house.profile).release("personal-access-token")
    pass_time(house, 2 * quarter, step=60)
    assert statuses(house, connections) == {"revoked"}
    assert told_to_authorize(house) == 3
