"""Pages of new records that come quickly after each other are committed together, and whatever ends the job between
them, each record and each event is there once."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import pytest
from sqlalchemy import text

from models.errors import StoreUnavailable
from models.messaging import messages
from models.oauth.connection import Connection, Status
from models.store import Store
from models.sync.snapshot import longest_silence
from models.sync.sync_run import RunStatus
from tests.flows.between import Between, between, listed, slowly, stored
from tests.harness import House
from worker.sync.slice import Slice


class Killed(BaseException):
    """A worker's end, which nothing in it can answer to."""


@dataclass
class Dying(Between):
    """A provider client whose worker is killed once, after the answer to its `last` request."""

    last: int = 0

    def read_page(self, *asked: Any) -> Any:
        called = super().read_page(*asked)
        if self.asked == self.last:
            raise Killed
        return called


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no answer count as slow, however busy the machine is, unless the test says so."""
    monkeypatch.setattr("worker.sync.run.longest_silence", timedelta(minutes=1))


@pytest.fixture
def still(house_for_all: House) -> House:
    """A house whose clock only the test turns."""
    house_for_all.clock.stop()
    between(house_for_all, lambda *_: None)
    return house_for_all


def connect(house: House, same_account_as: Connection | None = None) -> Connection:
    """A connection that was never read, with nothing queued; its account has three pages of documents."""
    account = house.control.add_user("Ida", documents=25) if same_account_as is None else same_account_as.account_id
    connection = house.connect(f"user-{uuid4()}", int(account))
    house.queue.held.clear()
    return connection


def take(house: House, connection: Connection) -> Slice:
    own = house.flows.sync.take(connection.id, asked=False)
    assert own is not None
    return own


def step(house: House, own: Slice, steps: int) -> Slice:
    """Read so many pages, of which none ends the run."""
    for _ in range(steps):
        following = house.flows.sync.step(own)
        assert following is not None
        own = following
    return own


def listed_here(house: House, connection: Connection) -> set[int]:
    return set(listed(house, int(connection.account_id)))


def told_of(house: House, connection: Connection) -> list[tuple[str, str]]:
    """Each event of a record, in order; their numbers have no gap."""
    told = [each for each in house.told(connection_id=connection.id) if each["type"].startswith("record.")]
    assert [each["sequence"] for each in told] == list(range(1, len(told) + 1))
    return [(each["type"], f"{each['resource']} {each['external_id']}") for each in told]


def test_a_first_sync_ends_the_same_wherever_its_worker_dies(still: House) -> None:
    undisturbed = connect(still)
    watched = between(still, lambda *_: still.turn(milliseconds=100))
    still.flows.sync(undisturbed.id, asked=False)
    for last in range(1, watched.asked + 1):
        connection = connect(still, same_account_as=undisturbed)
        dying = Dying(watched.client, watched.act, last=last)
        still.flows.sync.providers["breezedoc"] = dying  # type: ignore[index]  # a dict in truth
        with pytest.raises(Killed):
            still.flows.sync(connection.id, asked=False)
        still.turn(seconds=46)
        still.flows.sync(connection.id, asked=False)
        assert told_of(still, connection) == told_of(still, undisturbed), f"killed after request {last}"
        told, usual = still.told(connection_id=connection.id)[-1], still.told(connection_id=undisturbed.id)[-1]
        assert (told["type"], told["resources"]) == ("sync.completed", usual["resources"])
        assert stored(still, connection.id) == listed_here(still, connection)


def test_an_account_that_turns_out_large_is_read_on_page_by_page(still: House, monkeypatch: pytest.MonkeyPatch) -> None:
    small = connect(still)
    still.flows.sync(small.id, asked=False)
    monkeypatch.setattr("worker.sync.slice.most_records", 15)
    large = connect(still, same_account_as=small)
    between(still, slowly(still))
    own = step(still, take(still, large), 2)
    assert own.snapshot is not None
    own = step(still, own, 1)
    assert own.snapshot is None
    following: Slice | None = own
    while following is not None:
        following = still.flows.sync.step(following)
    assert told_of(still, large) == told_of(still, small)
    [completed], [usual] = (still.told("sync.completed", each.id) for each in (large, small))
    assert completed["resources"] == usual["resources"]


def test_pages_wait_for_those_that_come_at_once_and_are_all_written_with_one_that_comes_late(still: House) -> None:
    connection = connect(still)
    own = step(still, take(still, connection), 2)
    assert (stored(still, connection.id), len(told_of(still, connection))) == (set(), 1)
    still.turn(milliseconds=250)
    own = step(still, own, 1)
    assert len(stored(still, connection.id)) == 20
    with still.store.reading() as tx:
        assert tx.runs.running(connection.id) == own.run


def test_the_last_page_of_a_list_is_written_with_those_that_wait(still: House) -> None:
    connection = connect(still)
    own = step(still, take(still, connection), 3)
    assert stored(still, connection.id) == set()
    step(still, own, 1)
    assert stored(still, connection.id) == listed_here(still, connection)


def hold_next(house: House, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the provider keep the account's next answer back for longer than what waits may wait for it."""
    monkeypatch.setattr("worker.sync.run.longest_silence", longest_silence)
    house.control.inject(on="api", kind="late", delay_ms=200, match={"user_id": int(connection.account_id)})


@dataclass
class Looking(Between):
    """A provider client that looks at what is stored once an answer has come."""

    look: Callable[[], int] = int
    found: int = 0

    def read_page(self, *asked: Any) -> Any:
        called = super().read_page(*asked)
        self.found = self.look()
        return called


def test_what_waits_is_written_while_the_next_answer_takes_its_time(
    still: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = connect(still)
    own = step(still, take(still, connection), 2)
    usual = still.flows.sync.providers["breezedoc"]
    looking = Looking(usual, lambda *_: None, look=lambda: len(stored(still, connection.id)))
    still.flows.sync.providers["breezedoc"] = looking  # type: ignore[index]  # a dict in truth
    hold_next(still, connection, monkeypatch)
    own = step(still, own, 1)
    assert looking.found == 10
    assert [len(changes.new) for changes in own.draft.waiting.changes] == [10]
    step(still, own, 1)
    assert stored(still, connection.id) == listed_here(still, connection)
    assert len(told_of(still, connection)) == 1 + 25


def test_a_job_that_has_lost_its_run_writes_nothing_while_an_answer_takes_its_time(
    still: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = connect(still)
    late = step(still, take(still, connection), 2)
    still.turn(seconds=46)
    take(still, connection)
    hold_next(still, connection, monkeypatch)
    assert still.flows.sync.step(late) is None
    assert (stored(still, connection.id), len(told_of(still, connection))) == (set(), 1)


def test_a_database_that_is_away_while_an_answer_takes_its_time_costs_only_pages_read_again(
    still: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = connect(still)
    own = step(still, take(still, connection), 2)
    hold_next(still, connection, monkeypatch)
    with monkeypatch.context() as away:
        away.setattr(Store, "writing", Mock(side_effect=StoreUnavailable("away")))
        with pytest.raises(StoreUnavailable):
            still.flows.sync.step(own)
    assert (stored(still, connection.id), len(told_of(still, connection))) == (set(), 1)
    following: Slice | None = step(still, own, 1)
    while following is not None:
        following = still.flows.sync.step(following)
    assert stored(still, connection.id) == listed_here(still, connection)
    told = told_of(still, connection)
    assert len(told) == len(set(told))


def test_a_slow_provider_s_pages_are_committed_one_by_one(still: House) -> None:
    connection = connect(still)
    between(still, slowly(still))
    own = take(still, connection)
    counts = []
    for _ in range(4):
        own = step(still, own, 1)
        counts.append(len(stored(still, connection.id)))
    assert counts == [0, 10, 20, 25]


@pytest.mark.parametrize("bound", ["most_waiting", "largest_waiting"])
def test_a_page_that_would_be_too_much_is_written_with_those_that_wait(
    still: House, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    connection = connect(still)
    own = step(still, take(still, connection), 2)
    reached = {"most_waiting": len(own.draft.waiting.facts), "largest_waiting": own.draft.waiting.size}
    monkeypatch.setattr(f"models.sync.snapshot.{bound}", reached[bound])
    assert stored(still, connection.id) == set()
    step(still, own, 1)
    assert len(stored(still, connection.id)) == 20


def test_a_job_whose_lease_ran_out_writes_nothing_of_what_waits(still: House) -> None:
    connection = connect(still)
    late = step(still, take(still, connection), 3)
    still.turn(seconds=46)
    other = take(still, connection)
    assert still.flows.sync.step(late) is None
    assert not still.flows.sync.hand_on(late)
    assert (stored(still, connection.id), len(told_of(still, connection))) == (set(), 1)
    following: Slice | None = other
    while following is not None:
        following = still.flows.sync.step(following)
    assert stored(still, connection.id) == listed_here(still, connection)
    told = told_of(still, connection)
    assert len(told) == len(set(told))


def test_a_job_that_hands_its_run_on_writes_what_waits(still: House) -> None:
    connection = connect(still)
    own = step(still, take(still, connection), 3)
    still.queue.held.clear()
    assert still.flows.sync.hand_on(own)
    assert (len(stored(still, connection.id)), len(told_of(still, connection))) == (20, 21)
    assert still.queue.held == [messages.publish_events()]


def test_a_connection_that_is_revoked_keeps_the_records_that_wait(still: House) -> None:
    connection = connect(still)
    with still.store.writing() as tx:  # as one of a provider whose tokens nothing refreshes
        tx.credentials.put(replace(still.credential(connection.id), refresh_token=None))
    own = step(still, take(still, connection), 3)
    still.control.revoke_user(int(connection.account_id))
    assert still.flows.sync.step(own) is None
    assert still.connection(connection.id).status is Status.revoked
    with still.store.reading() as tx:
        run = tx.runs.newest(connection.id)
    assert run is not None
    assert (run.status, run.counts["document"]["created"]) == (RunStatus.ended, 20)
    assert (len(stored(still, connection.id)), len(told_of(still, connection))) == (20, 21)


def test_a_record_that_changes_while_it_waits_is_written_before_its_change(still: House) -> None:
    connection = connect(still)
    account = int(connection.account_id)
    own = step(still, take(still, connection), 2)
    removed, edited, *_ = (int(item.external_id) for item in own.draft.waiting.changes[-1].new)
    still.control.edit_document(account, edited, "Changed")
    still.control.delete_document(account, removed)  # so that the list is read again
    step(still, own, 3)
    told = [type_ for type_, record in told_of(still, connection) if record == f"document {edited}"]
    assert told == ["record.created", "record.updated"]


def refuse(house: House, external_id: str) -> None:
    """From now on the database refuses this document, as it does a value that it cannot hold."""
    statements = (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$",
        "CREATE TRIGGER refused BEFORE INSERT ON record FOR EACH ROW "
        f"WHEN (NEW.resource = 'document' AND NEW.external_id = '{external_id}') EXECUTE FUNCTION refuse()",
    )
    with house.store.writing() as tx:
        for each in statements:
            tx.sql.execute(text(each))


@pytest.mark.parametrize("database", ["postgresql"])
@pytest.mark.parametrize("together", [True, False])
def test_a_record_that_the_database_refuses_costs_its_list_and_nothing_before_or_beside_it(
    house: House, together: bool
) -> None:
    house.clock.stop()
    connection = connect(house)
    own = step(house, take(house, connection), 3)
    first, second = (changes.new for changes in own.draft.waiting.changes)
    refuse(house, second[4].external_id)
    house.turn(seconds=46)
    if not together:
        house.keep_no_page_in_memory()
    house.flows.sync(connection.id, asked=False)
    for _ in range(8):
        house.turn(minutes=10)
        house.sweep()
    [failed] = house.told("sync.failed", connection.id)
    assert failed["reason"] == "provider_unavailable"
    assert failed["description"].startswith("document: the database refused a statement")
    assert stored(house, connection.id) == {int(item.external_id) for item in first}
    assert len(told_of(house, connection)) == 1 + len(first) + len(stored(house, connection.id, "recipient"))


@pytest.mark.parametrize("database", ["postgresql"])
def test_what_the_database_refuses_while_an_answer_takes_its_time_is_read_again_page_by_page(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.clock.stop()
    connection = connect(house)
    own = step(house, take(house, connection), 3)
    refuse(house, own.draft.waiting.changes[-1].new[0].external_id)
    hold_next(house, connection, monkeypatch)
    own = step(house, own, 1)
    assert (own.run.place, own.run.page, own.one_by_one, len(own.draft.log)) == (1, 1, True, 3)
    assert (stored(house, connection.id), len(told_of(house, connection))) == (set(), 1)


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_job_that_cannot_write_what_waits_commits_its_first_page_before_it_hands_its_run_on(house: House) -> None:
    house.clock.stop()
    connection = connect(house)
    own = step(house, take(house, connection), 3)
    first, second = ({int(item.external_id) for item in changes.new} for changes in own.draft.waiting.changes)
    refuse(house, str(min(second)))
    assert house.flows.sync.hand_on(own)
    with house.store.reading() as tx:
        run = tx.runs.running(connection.id)
    assert run is not None
    assert (run.place, run.page, run.lease_owner) == (1, 2, None)
    assert (stored(house, connection.id), len(told_of(house, connection))) == (first, 1 + len(first))
    own = step(house, take(house, connection), 1)
    assert len(own.draft.waiting.changes) == 1
    assert not house.flows.sync.hand_on(own), "the page with the refused record fails, and is tried again later"
    with house.store.reading() as tx:
        run = tx.runs.running(connection.id)
    assert run is not None
    assert (run.page, run.failures, run.lease_owner) == (2, 1, None)
