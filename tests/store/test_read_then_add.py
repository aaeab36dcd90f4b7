"""A read and what is added after it: two transactions, each of one statement where the database allows that."""

import pytest
from sqlalchemy import func, select, text

from models.audit.entry import Action, Entry
from models.errors import StoreUnavailable
from models.store.statement import Statement
from tests.statements import counting_statements
from tests.store.conftest import Opened, add_connection, noon

entry = Entry(action=Action.call_made, actor="gateway:reports", provider="breezedoc", user_id="ada", connection_id="c")
settings = ("lock_timeout", "timezone", "transaction_isolation")
of_session = Statement(lambda dialect: select(*(func.current_setting(name) for name in settings)))


def audited(opened: Opened) -> int:
    with opened.other.reading() as tx:
        return len(tx.audit.newest({}, None, 10))


def test_what_is_added_is_written_when_the_block_ends_and_no_lock_is_held_before(opened: Opened) -> None:
    own = add_connection(opened.store)
    with opened.store.read_then_add(lambda tx: tx.gateway.find([own.id])) as (found, tx):
        tx.audit.add(entry, noon)
        with opened.other.writing() as other:
            other.audit.add(entry, noon)
        assert audited(opened) == 1
    assert (found[own.id].connection.id, audited(opened)) == (own.id, 2)


def test_a_block_that_fails_adds_nothing(opened: Opened) -> None:
    def fail() -> None:
        with opened.store.read_then_add(lambda tx: tx.gateway.find([])) as (_, tx):
            tx.audit.add(entry, noon)
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert audited(opened) == 0


@pytest.mark.parametrize("database", ["postgresql"])
def test_it_has_the_settings_of_every_transaction_and_begins_none(opened: Opened) -> None:
    with opened.store.reading():
        pass
    with (
        counting_statements(opened.store.engine) as sent,
        opened.store.read_then_add(lambda tx: of_session.first(tx.sql)) as (found, tx),
    ):
        tx.audit.add(entry, noon)
        tx.audit.add(entry, noon)
    assert found == ("5s", "UTC", "read committed")
    assert (len(sent.statements), sent.alone, sent.commits, sent.rollbacks, sent.durable) == (2, 2, 0, 0, 1), str(sent)


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_read_that_begins_a_transaction_unseen_is_no_way_to_lose_what_is_added(opened: Opened) -> None:
    with (
        pytest.raises(StoreUnavailable),
        opened.store.read_then_add(lambda tx: tx.sql.execute(text("SELECT 1")).all()) as (_, tx),
    ):
        tx.audit.add(entry, noon)


def test_one_read_leaves_no_transaction_behind(opened: Opened) -> None:
    with opened.store.reading():
        pass
    with counting_statements(opened.store.engine) as sent:
        found = opened.store.read_once(lambda tx: tx.overview.time())
    assert found.tzinfo is not None
    if opened.store.locks_rows:
        assert (sent.alone, sent.commits, sent.rollbacks) == (1, 0, 0), str(sent)
    with opened.other.writing() as other:
        other.audit.add(entry, noon)
