"""What a refresh takes from the token endpoint's budget before its transaction, where rows are locked one by one, and
what becomes of the locks if it is taken in that transaction, because nothing was reserved that still holds.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import text

from models.errors import StoreUnavailable
from models.oauth.authorization import Step
from models.oauth.exchange_outcome import CodeRequest
from models.oauth.token_pair import TokenPair
from models.oauth.token_response import TokensGranted
from models.store.token_rate_limits import Paces
from tests.harness import House
from tests.servers import wait_until
from worker.oauth.exchange import Exchange
from worker.oauth.probe_client import ProbeClient
from worker.oauth.refresh import RefreshRequest
from worker.oauth.reserve import Reserve
from worker.oauth.reserve_code import ReserveCode
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


def is_locked(house: House, table: str) -> bool:
    """Return whether another session has locked the table's only row."""
    try:
        with house.store.writing() as tx:
            tx.sql.execute(text(f'SELECT 1 FROM "{table}" FOR UPDATE NOWAIT')).one()
    except StoreUnavailable:
        return True
    return False


def consent(house: House) -> Callable[[], object]:
    authorization_id = house.consent("ada", 1)
    return lambda: house.flows.exchange(authorization_id)


def make_refresh_due(house: House) -> Callable[[], object]:
    connection = house.refreshable()
    return lambda: house.flows.refresh(connection.id)


def make_probe_due(house: House) -> Callable[[], object]:
    connection = house.refreshable()
    house.control.inject("token", count=None, kind="redirect")
    house.flows.refresh(connection.id)
    house.turn(seconds=3)
    return lambda: house.flows.probe_client("breezedoc", "sandbox-client")


@pytest.mark.parametrize(
    ("prepare", "table"), [(consent, "authorization"), (make_refresh_due, "connection"), (make_probe_due, "client")]
)
def test_what_is_taken_where_nothing_was_reserved_leaves_its_row_locked_until_the_intent_is_written(
    house: House, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[House], Callable[[], object]], table: str
) -> None:
    act, take, seen = prepare(house), Paces.take, []

    def take_and_look(self: Paces, *arguments: Any) -> Any:
        wait = take(self, *arguments)
        seen.append(is_locked(house, table))
        return wait

    for owner, name in ((ReserveCode, "__call__"), (Reserve, "__call__"), (ProbeClient, "_reserve")):
        monkeypatch.setattr(owner, name, lambda *unused: None)
    monkeypatch.setattr(Paces, "take", take_and_look)
    act()
    assert seen == [True]


def test_two_workers_that_reserved_nothing_present_a_code_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    authorization_id = house.consent("ada", 1)
    house.control.reset_counters()
    monkeypatch.setattr(ReserveCode, "__call__", lambda *unused: None)
    second = Thread(target=house.flows.exchange, args=(authorization_id,))

    def let_the_second_come() -> None:
        if second.ident is None:
            second.start()
            wait_until(lambda: not second.is_alive() or house.waits_for_a_lock(), "the second worker waits or is done")

    busy: Any = Busy(house.flows.exchange.parking, let_the_second_come)
    replace(house.flows.exchange, parking=busy)(authorization_id)
    second.join()
    assert house.control.counters()["totals"]["/oauth/token"] == {"200": 1}
    assert house.told("connection.authorization_failed") == []


def test_a_code_whose_row_was_locked_for_long_is_not_sent_into_a_pause(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was reserved is as old as the wait for the lock, and what has changed meanwhile counts."""
    authorization_id = house.consent("ada", 1)
    house.control.reset_counters()
    reserve = ReserveCode.__call__

    def reserve_and_wait(self: ReserveCode, authorization_id: str) -> Any:
        reserved = reserve(self, authorization_id)
        house.turn(seconds=2)
        with house.store.writing() as tx:
            tx.paces.pause("breezedoc", house.clock() + timedelta(seconds=30))
        return reserved

    monkeypatch.setattr(ReserveCode, "__call__", reserve_and_wait)
    house.flows.exchange(authorization_id)
    assert house.control.counters()["totals"].get("/oauth/token") is None


def test_a_job_that_stood_still_before_its_lease_presents_no_code_whose_tokens_are_parked(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    authorization_id = house.consent("ada", 1)
    house.control.reset_counters()
    flow, find = house.flows.exchange, Exchange._find_parked

    def find_and_stand_still(self: Exchange, authorization_id: str) -> Any:
        looked = find(self, authorization_id)
        monkeypatch.setattr(Exchange, "_find_parked", find)
        request = flow.load(authorization_id)
        assert isinstance(request, CodeRequest)
        outcome = flow.ask(request).outcome
        assert isinstance(outcome, TokensGranted)
        flow.parking.park(Ticket("exchange", authorization_id), TokenPair(outcome, house.clock()))
        house.turn(seconds=61)
        return looked

    monkeypatch.setattr(Exchange, "_find_parked", find_and_stand_still)
    flow(authorization_id)
    assert house.control.counters()["totals"]["/oauth/token"] == {"200": 1}
    house.sweep()
    with house.store.reading() as tx:
        found = tx.authorizations.get(authorization_id)
    assert found is not None
    assert found.step is Step.connected
