"""How many statements and commits a flow takes: exact numbers, so that none is added unseen."""

import pytest

from tests.databases import both_databases
from tests.harness import House
from tests.statements import Sent, counting_statements


def refresh(house: House) -> Sent:
    """Return what a refresh sends if nothing is unusual."""
    connection = house.refreshable()
    with counting_statements(house.store.engine) as sent:
        house.flows.refresh(connection.id)
    assert house.connection(connection.id).generation == connection.generation + 1
    return sent


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_refresh_is_nine_statements_and_waits_twice_for_the_disk(house: House) -> None:
    sent = refresh(house)
    assert (len(sent.statements), sent.commits, sent.durable, sent.rollbacks) == (9, 3, 2, 0), str(sent)


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
def test_a_sync_that_finds_nothing_is_ten_statements_and_waits_twice_for_the_disk(house: House) -> None:
    sent = sync(house)
    assert (len(sent.statements), sent.commits, sent.durable, sent.rollbacks) == (10, 2, 2, 0), str(sent)


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
