"""Which decisions are accepted, and which are kept when old ones are deleted."""

from datetime import datetime, timedelta

import pytest

from models.journal import Request, Verb
from models.store import Store
from models.store.journal import kept_decisions
from tests.store.conftest import add_connection, an_authorization, noon

second = timedelta(seconds=1)
everything = 1000


def decide(store: Store, subject: str, count: int, start: datetime = noon) -> None:
    """Write so many decisions, a second apart and numbered from 0."""
    with store.writing() as tx:
        for number in range(count):
            tx.journal.decide(subject, start + number * second, Verb.refresh_saved, number=number)


def numbers(store: Store, subject: str) -> list[object]:
    with store.reading() as tx:
        return [decision.evidence["number"] for decision in tx.journal.decisions_of(subject)]


def prune(store: Store, before: datetime, limit: int = everything) -> int:
    with store.writing() as tx:
        return tx.journal.prune(before, limit)


def test_a_verb_is_written_by_its_member_or_its_word(store: Store) -> None:
    connection = add_connection(store)
    with store.writing() as tx:
        tx.journal.decide(connection.id, noon, Verb.refresh_saved)
        tx.journal.decide(connection.id, noon, "refresh.saved")
    with store.reading() as tx:
        assert [decision.verb for decision in tx.journal.decisions_of(connection.id)] == ["refresh.saved"] * 2


def test_an_unknown_verb_is_refused(store: Store) -> None:
    connection = add_connection(store)
    with pytest.raises(ValueError, match=r"refresh\.dreamt"), store.writing() as tx:
        tx.journal.decide(connection.id, noon, "refresh.dreamt")


def test_the_newest_decisions_of_a_quiet_connection_are_kept(store: Store) -> None:
    quiet, busy = add_connection(store, account="1"), add_connection(store, account="2")
    decide(store, quiet.id, kept_decisions + 5)
    decide(store, busy.id, 3)
    assert prune(store, noon + timedelta(days=365)) == 5
    assert numbers(store, quiet.id) == list(range(5, kept_decisions + 5))
    assert numbers(store, busy.id) == [0, 1, 2]


def test_newer_decisions_count_among_those_that_are_kept(store: Store) -> None:
    connection = add_connection(store)
    decide(store, connection.id, 4)
    decide(store, connection.id, kept_decisions - 1, noon + timedelta(days=40))
    prune(store, noon + timedelta(days=30))
    assert numbers(store, connection.id) == [3, *range(kept_decisions - 1)]


def test_decisions_of_an_authorization_are_kept_until_it_is_deleted(store: Store) -> None:
    authorization = an_authorization()
    with store.writing() as tx:
        tx.authorizations.add(authorization, "link")
    decide(store, authorization.id, 2)
    decide(store, "deleted long ago", 2)
    prune(store, noon + timedelta(days=365))
    assert (numbers(store, authorization.id), numbers(store, "deleted long ago")) == ([0, 1], [])


def test_what_is_recent_is_kept_even_if_nothing_is_known_of_its_subject(store: Store) -> None:
    decide(store, "unknown", 3)
    prune(store, noon + 2 * second)
    assert numbers(store, "unknown") == [2]


def test_deleting_stops_at_the_limit(store: Store) -> None:
    connection = add_connection(store)
    decide(store, connection.id, kept_decisions + 5)
    assert prune(store, noon + timedelta(days=365), limit=2) == 2
    assert numbers(store, connection.id) == list(range(2, kept_decisions + 5))


def test_requests_are_deleted_by_age_alone(store: Store) -> None:
    connection = add_connection(store)
    with store.writing() as tx:
        tx.journal.log([Request(noon, connection.id, "GET", "/me", 200, 5)])
    assert prune(store, noon + second) == 1
    with store.reading() as tx:
        assert tx.journal.calls_of(connection.id) == []
