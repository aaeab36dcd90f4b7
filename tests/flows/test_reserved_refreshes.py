"""What a refresh takes from the token endpoint's budget before its transaction, where rows are locked one by one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from models.oauth.authorization import Step
from tests.harness import House
from worker.oauth.refresh import RefreshRequest
from worker.tokens.spool import Parking, Ticket

pytestmark = pytest.mark.parametrize("database", ["postgresql"])  # SQLite has one lock for everything


class Busy:
    """A spool that lets something happen while a refresh's transaction has its locks; the rest is as it was."""

    def __init__(self, parking: Parking, act: Callable[[], None]) -> None:
        self.parking = parking
        self.act = act

    def __getattr__(self, name: str) -> Any:
        return getattr(self.parking, name)

    def reserve(self, ticket: Ticket) -> None:
        self.act()
        self.parking.reserve(ticket)


def count_taken(house: House) -> int:
    with house.store.reading() as tx:
        return sum(tx.paces.get("breezedoc").counts.values())


def test_a_transaction_that_writes_an_intent_keeps_no_one_from_the_budget(house: House) -> None:
    connection = house.refreshable()
    before = count_taken(house)

    def take() -> None:
        with house.store.counting() as tx:
            assert tx.paces.take("breezedoc", 60, "refresh", house.clock()) is None

    busy: Any = Busy(house.flows.refresh.parking, take)
    replace(house.flows.refresh, parking=busy)(connection.id)
    assert house.connection(connection.id).generation == connection.generation + 1
    assert count_taken(house) == before + 2


def test_what_was_reserved_for_a_token_is_not_used_for_the_next_one(house: House) -> None:
    connection = house.refreshable()
    flow = house.flows.refresh
    reserved = flow.reserve(connection.id)
    assert reserved is not None
    flow(connection.id)
    house.make_refresh_due(connection.id)
    request = flow.load(connection.id, "owner", reserved)
    assert isinstance(request, RefreshRequest)
    assert request.refresh_token != reserved.opened.refresh_token


def test_what_may_not_leave_takes_nothing_from_the_budget(house: House) -> None:
    connection = house.refreshable()
    house.flows.refresh(connection.id)
    before = count_taken(house)
    house.flows.refresh(connection.id)
    assert count_taken(house) == before


def test_a_transaction_that_presents_a_code_keeps_no_one_from_the_budget(house: House) -> None:
    authorization_id = house.consent("grace", 2)
    before = count_taken(house)

    def take() -> None:
        with house.store.counting() as tx:
            assert tx.paces.take("breezedoc", 60, "exchange", house.clock()) is None

    busy: Any = Busy(house.flows.exchange.parking, take)
    replace(house.flows.exchange, parking=busy)(authorization_id)
    with house.store.reading() as tx:
        found = tx.authorizations.get(authorization_id)
    assert found is not None
    assert found.step is Step.connected
    assert count_taken(house) == before + 2


def test_a_code_that_was_presented_takes_nothing_from_the_budget(house: House) -> None:
    authorization_id = house.consent("grace", 2)
    house.flows.exchange(authorization_id)
    before = count_taken(house)
    house.flows.exchange(authorization_id)
    assert count_taken(house) == before
