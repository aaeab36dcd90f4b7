"""How many statements, commits and round trips to Redis a flow takes: exact numbers, so that none is added unseen."""

from datetime import timedelta
from time import monotonic
from typing import Any

import pytest
from redis import Connection, ConnectionPool, Redis

from models.audit.entry import Action
from models.gateway.access import usable
from models.gateway.keys import GatewayKey, digest_of
from models.journal import Request
from models.messaging import messages
from tests.databases import both_databases
from tests.flows.between import between, slowly
from tests.harness import House
from tests.statements import Sent, counting_statements
from worker.gateway.desk import Admission, Desk, Done, Noted, Wish
from worker.provider.rate_limit import Budgets, Granted, Settlement


def refresh(house: House) -> Sent:
    """Return what a refresh sends if nothing is unusual."""
    connection = house.refreshable()
    with counting_statements(house.store.engine) as sent:
        house.flows.refresh(connection.id)
    assert house.connection(connection.id).generation == connection.generation + 1
    return sent


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_refresh_is_eight_statements_in_eight_round_trips_and_waits_twice_for_the_disk(house: House) -> None:
    sent = refresh(house)
    assert (len(sent.statements), sent.commits, sent.durable, sent.rollbacks) == (8, 3, 2, 0), str(sent)
    assert sent.trips == 8, str(sent)


@pytest.mark.parametrize("database", ["sqlite"])
def test_a_refresh_on_sqlite_is_two_transactions(house: House) -> None:
    sent = refresh(house)
    assert (sent.commits, sent.durable, sent.rollbacks) == (2, 2, 0), str(sent)
    assert len(sent.statements) <= 14, str(sent)


def sync(house: House) -> Sent:
    """Return what a sync sends that someone asked for, and that finds nothing new."""
    connection = house.connect("ada", 1)
    house.work()
    house.turn(minutes=2)
    with counting_statements(house.store.engine) as sent:
        house.flows.sync(connection.id)
    return sent


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_sync_that_finds_nothing_is_six_statements_and_waits_twice_for_the_disk(house: House) -> None:
    sent = sync(house)
    assert (len(sent.statements), sent.commits, sent.durable, sent.rollbacks) == (6, 2, 2, 0), str(sent)
    assert sent.trips == 5, str(sent)


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_pulse_is_five_statements_and_has_nothing_to_publish(house: House) -> None:
    connection = house.connect("ada", 1)
    house.work()
    house.turn(minutes=16)
    house.queue.held.clear()
    with counting_statements(house.store.engine) as sent:
        house.flows.sync(connection.id, asked=False)
    assert (len(sent.statements), sent.commits, sent.durable, sent.rollbacks) == (5, 2, 2, 0), str(sent)
    assert sent.trips == 4, str(sent)
    assert messages.publish_events() not in house.queue.held


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no answer count as slow, however busy the machine is."""
    monkeypatch.setattr("worker.sync.run.longest_silence", timedelta(minutes=1))


def read_first(house: House, documents: int) -> Sent:
    """Return what the first sync of an account sends, with nothing but the test to turn the clock."""
    house.clock.stop()
    connection = house.connect(f"user-{documents}", house.control.add_user("Ida", documents=documents))
    house.queue.held.clear()
    with counting_statements(house.store.engine) as sent:
        house.flows.sync(connection.id, asked=False)
    return sent


@pytest.mark.usefixtures("_patient")
@pytest.mark.parametrize("database", ["postgresql"])
@pytest.mark.parametrize("documents", [10, 60])
def test_a_first_sync_whose_pages_come_at_once_waits_once_for_each_list_with_records(
    house: House, documents: int
) -> None:
    sent = read_first(house, documents)
    assert (len(sent.statements), sent.commits, sent.durable, sent.rollbacks) == (20, 5, 5, 0), str(sent)


@pytest.mark.usefixtures("_patient")
@pytest.mark.parametrize("database", ["postgresql"])
def test_a_page_of_new_records_that_comes_alone_is_three_statements(house: House) -> None:
    between(house, slowly(house))
    short, long = read_first(house, 10), read_first(house, 30)
    pages = (long.commits - short.commits, len(long.statements) - len(short.statements))
    assert pages == (6, 6 * 3), str(long)


@pytest.mark.parametrize("database", ["sqlite"])
def test_a_sync_that_finds_nothing_is_two_transactions_on_sqlite(house: House) -> None:
    sent = sync(house)
    assert (sent.commits, sent.durable, sent.rollbacks) == (2, 2, 0), str(sent)


@both_databases
def test_a_refresh_that_is_not_due_only_gives_its_claim_back(house: House) -> None:
    connection = house.refreshable()
    house.flows.refresh(connection.id)
    with counting_statements(house.store.engine) as sent:
        house.flows.refresh(connection.id)
    writes = [text for text in sent.statements if not text.startswith("SELECT")]
    assert (len(writes), sent.durable) == (1, 1), str(sent)


def counting_trips(house: House, redis_url: str) -> tuple[Budgets, list[object]]:
    """Return budgets in this Redis by the house's clock, and a list to which each round trip there is added."""
    trips: list[object] = []

    class Counting(Connection):
        def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            trips.append(command)
            super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]

    client = Redis(connection_pool=ConnectionPool.from_url(redis_url, connection_class=Counting))
    return Budgets(client, lambda: house.clock().timestamp()), trips


reads: dict[str, tuple[int, int, int, int]] = {
    "a pulse": (5, 2, 1, 2),
    "every list": (5, 1, 5, 2),
    "a long list": (25, 1, 11, 3),
}
"""How many documents the account has, the how manieth sync it is; its requests, and its round trips."""


@pytest.mark.parametrize("case", reads)
def test_a_sync_reserves_its_requests_before_the_first_and_settles_after_the_last(
    house: House, redis_url: str, case: str
) -> None:
    documents, syncs, requests, round_trips = reads[case]
    budgets, trips = counting_trips(house, redis_url)
    house.flows.sync.providers["breezedoc"].budgets = budgets
    account = house.control.add_user("Ida", documents=documents)
    connection = house.connect("ida", account)
    house.work()
    for _ in range(syncs):
        house.turn(minutes=16)
        house.control.reset_counters()
        trips.clear()
        house.flows.sync(connection.id, asked=False)
    counters = house.control.counters(tokens=False)["api_requests"]
    assert (sum(counters[str(account)].values()), len(trips)) == (requests, round_trips)
    budgets.redis.close()


@pytest.mark.parametrize("database", ["postgresql"])
@pytest.mark.parametrize("calls", [1, 5])
def test_calls_at_the_same_time_are_admitted_with_two_statements_and_logged_with_one(
    house: House, redis_url: str, calls: int
) -> None:
    connection = house.connect("ada", 1)
    budgets, trips = counting_trips(house, redis_url)
    providers = {house.profile.name: house.profile}
    desk = Desk(house.store, house.vault, providers, budgets, house.queue.send, house.clock)
    key = GatewayKey("reports", digest_of("reads"))
    wish = Wish(key, connection.id, usable, reserves=True, noted=Noted(Action.call_made, {"method": "GET"}))
    desk.admit([wish])  # which has Redis load the script
    house.clock.stop()  # by which Redis answers at once
    trips.clear()
    with counting_statements(house.store.engine) as sent:
        admitted = desk.admit([wish] * calls)
    assert (len(sent.statements), sent.alone, sent.durable, len(trips)) == (2, 2, 1, 1), str(sent)
    trips.clear()
    done = []
    for each in admitted:
        assert isinstance(each, Admission)
        assert isinstance(each.granted, Granted)
        line = Request(house.clock(), connection.id, "GET", "/documents", 200, 12)
        done.append(Done(connection, Settlement(each.granted.second, 1, (0.0,)), monotonic(), line))
    with counting_statements(house.store.engine) as sent:
        desk.finish(done)
    assert (len(sent.statements), sent.commits, sent.durable, len(trips)) == (1, 1, 1, 1), str(sent)
    budgets.redis.close()


def come_back(house: House) -> Sent:
    """Return what the provider's redirect back sends."""
    begun = house.callback.begin("breezedoc", house.link("ada"), {})
    query = house.approve(begun.location)
    with counting_statements(house.store.engine) as sent:
        house.callback.finish("breezedoc", query, {begun.flow: begun.binding})
    return sent


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_callback_is_two_statements_and_waits_once_for_the_disk(house: House) -> None:
    sent = come_back(house)
    assert (len(sent.statements), sent.commits, sent.durable, sent.rollbacks) == (2, 1, 1, 0), str(sent)


@pytest.mark.parametrize("database", ["sqlite"])
def test_a_callback_on_sqlite_is_one_transaction(house: House) -> None:
    sent = come_back(house)
    assert (len(sent.statements), sent.commits, sent.durable, sent.rollbacks) == (3, 1, 1, 0), str(sent)


@both_databases
def test_an_opened_link_is_two_statements_and_waits_once_for_the_disk(house: House) -> None:
    house.consent("grace")  # which connects to the database
    link = house.link("ada")
    with counting_statements(house.store.engine) as sent:
        house.callback.begin("breezedoc", link, {})
    assert (len(sent.statements), sent.commits, sent.durable, sent.rollbacks) == (2, 1, 1, 0), str(sent)
