"""503: likely nothing was spent, and no one is made to pay for it where something was."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from models.oauth.connection import Connection
from tests.harness import House

settle = 61


def meet(house: House, reuse: str, moment: str, **more: Any) -> Connection:
    """A refreshable connection whose refresh was answered with 503, the grant run or not."""
    connection = house.refreshable()
    client = house.flows.refresh.providers["breezedoc"]
    client.provider = replace(client.provider, refresh_reuse=reuse)  # type: ignore[arg-type]
    house.control.set(refresh_reuse=reuse)
    house.control.inject("token", moment=moment, status=503, **more)
    house.flows.refresh(connection.id)
    house.queue.held.clear()
    assert house.connection(connection.id).status == "active"
    return connection


def pass_time(house: House, turns: int = 4) -> None:
    for _ in range(turns):
        house.turn(seconds=settle)
        house.sweep()


@pytest.mark.parametrize("reuse", ["harmless", "family_revoked", "grace"])
def test_a_token_that_the_old_access_token_proves_unspent_is_presented_after_a_few_seconds(
    house: House, reuse: str
) -> None:
    connection = meet(house, reuse, "before")
    house.turn(seconds=6)
    house.sweep()
    after = house.connection(connection.id)
    assert (after.status, after.generation, after.problem) == ("active", connection.generation + 1, None)


@pytest.mark.parametrize(("reuse", "presentations"), [("harmless", 2), ("family_revoked", 1)])
def test_a_server_that_could_and_said_that_it_could_not_costs_the_pair_and_nobody_is_blamed(
    house: House, reuse: str, presentations: int
) -> None:
    connection = meet(house, reuse, "after")
    pass_time(house)
    after = house.connection(connection.id)
    assert (after.status, after.revoked_reason) == ("revoked", "rotation_lost")
    assert house.presentations() == presentations
    if reuse == "family_revoked":
        assert house.control.counters()["live"]["1"]["families"] == 1


@pytest.mark.parametrize("reuse", ["harmless", "family_revoked"])
def test_where_nothing_is_left_to_ask_with_it_counts_as_unspent_however_often(house: House, reuse: str) -> None:
    connection = meet(house, reuse, "before", count=4)
    with house.store.writing() as tx:
        tx.credentials.put(replace(house.credential(connection.id), expires_at=house.clock() - timedelta(hours=1)))
    for _ in range(6):
        house.turn(minutes=30)
        house.sweep()
    after = house.connection(connection.id)
    assert (after.status, after.generation) == ("active", connection.generation + 1)


def test_where_nothing_is_left_to_ask_with_a_refusal_after_it_is_the_loss_of_the_pair(house: House) -> None:
    connection = meet(house, "harmless", "after")
    with house.store.writing() as tx:
        tx.credentials.put(replace(house.credential(connection.id), expires_at=house.clock() - timedelta(hours=1)))
    pass_time(house)
    assert house.connection(connection.id).revoked_reason == "rotation_lost"


@pytest.mark.parametrize("between", ["503", "429", "no budget"])
@pytest.mark.parametrize("reuse", ["harmless", "family_revoked", "grace"])
def test_what_only_puts_the_next_try_off_does_not_make_the_refusal_after_it_the_users(
    house: House, reuse: str, between: str
) -> None:
    connection = meet(house, reuse, "after")
    with house.store.writing() as tx:
        tx.credentials.put(replace(house.credential(connection.id), expires_at=house.clock() - timedelta(hours=1)))
        if between == "no budget":
            tx.paces.pause(connection.provider, house.clock() + timedelta(seconds=settle + 30))
    if between != "no budget":
        house.control.inject("token", moment="before", status=int(between))
    pass_time(house, turns=20)
    assert house.connection(connection.id).revoked_reason == "rotation_lost"


def test_a_token_that_the_api_had_refused_before_says_nothing_of_the_refresh(house: House) -> None:
    connection = house.refreshable()
    client = house.flows.refresh.providers["breezedoc"]
    client.provider = replace(client.provider, refresh_reuse="family_revoked")
    house.control.set(refresh_reuse="family_revoked")
    broken = house.control.inject("api", kind="garbage", status=401, body='{"message": "Unauthenticated."}', count=None)
    house.flows.sync(connection.id)
    assert house.credential(connection.id).refused_generation == connection.generation
    house.control.inject("token", moment="before", status=503)
    house.flows.refresh(connection.id)
    for _ in range(3):
        house.turn(seconds=6)
        house.sweep()
    assert house.connection(connection.id).status == "active", "an outage of theirs is nobody's revocation"
    house.control.remove_fault(broken)
    pass_time(house)
    assert house.connection(connection.id).status == "active"
    assert house.connection(connection.id).generation > connection.generation
