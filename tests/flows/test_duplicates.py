"""A message that comes twice, or late: a queue that stands in a jam holds many of them, and none may do harm."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from models.errors import RedisUnavailable
from models.messaging import messages
from models.oauth.connection import Connection, Status
from scheduler.sweep import Sweep, claim_length
from tests.databases import both_databases
from tests.harness import House, ListQueue

pytestmark = both_databases


def code_requests(house: House) -> int:
    with house.store.reading() as tx:
        return int(tx.sql.execute(text("SELECT count(*) FROM request_log WHERE method = 'POST'")).scalar_one())


put_off: dict[str, dict[str, Any]] = {
    "an answer that may still come": {"moment": "after", "kind": "drop"},
    "a provider in maintenance": {"moment": "before", "status": 503, "retry_after": 20},
    "a provider that is busy": {"moment": "before", "status": 429, "retry_after": 20},
}


@pytest.mark.parametrize("case", put_off)
def test_a_code_that_waits_for_its_time_is_presented_by_no_message_before_it(house: House, case: str) -> None:
    house.control.inject("token", **put_off[case])
    authorization_id = house.consent()
    for _ in range(5):
        house.flows.exchange(authorization_id)
        house.turn(seconds=1)
    assert code_requests(house) == 1
    house.turn(seconds=30)
    house.flows.exchange(authorization_id)
    assert code_requests(house) == 2


def test_an_account_that_could_not_be_asked_is_asked_by_no_message_before_its_time(house: House) -> None:
    house.control.inject("api", status=500, count=9)
    authorization_id = house.consent()
    for _ in range(5):
        house.flows.exchange(authorization_id)
    with house.store.reading() as tx:
        calls = [each.method for each in tx.journal.calls_of(authorization_id)]
    assert calls == ["POST", "GET"]


def test_a_code_that_has_just_come_is_exchanged_also_where_the_clock_is_behind(house: House) -> None:
    authorization_id = house.consent()
    house.clock.turn(timedelta(seconds=-20))
    house.flows.exchange(authorization_id)
    assert [event["type"] for event in house.told()][:1] == ["connection.authorized"]


def test_a_reading_that_another_message_has_done_begins_no_other(house: House) -> None:
    connection = house.connect("ada", 1)
    house.work()
    for _ in range(5):
        house.flows.sync(connection.id, asked=False)
    assert len(house.told("sync.completed", connection.id)) == 1


def seed(house: House, count: int) -> None:
    """So many connections whose reading is due."""
    now = house.clock()
    with house.store.writing() as tx:
        for n in range(count):
            made = Connection(f"c{n}", f"user-{n}", "breezedoc", "sandbox-client", str(n), Status.active, now)
            tx.connections.add(replace(made, sync_due_at=now - timedelta(seconds=count - n)))


def sweep(house: House) -> list[str]:
    """What one pass sends while the queue has room for five."""
    before = len(house.queue.held)
    Sweep(house.store, house.queue, house.clock, {"breezedoc": 60}, most_waiting=5)()
    return [message.kwargs["connection_id"] for message in house.queue.held[before:]]


def test_a_queue_is_filled_up_and_never_overfilled_however_long_it_takes(house: House) -> None:
    seed(house, 12)
    assert sweep(house) == ["c0", "c1", "c2", "c3", "c4"]
    house.turn(seconds=claim_length.total_seconds() + 1)
    assert sweep(house) == []
    del house.queue.held[:2]
    assert len(sweep(house)) == 2


def test_what_is_due_is_sent_again_where_the_queue_lost_it(house: House) -> None:
    seed(house, 3)
    assert sweep(house) == ["c0", "c1", "c2"]
    house.queue.held.clear()
    assert sweep(house) == []
    house.turn(seconds=claim_length.total_seconds() + 1)
    assert sweep(house) == ["c0", "c1", "c2"]


class Leaky(ListQueue):
    """A queue that goes away after so many messages, and is back afterwards."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def send_all(self, batch: Any) -> None:
        for number, message in enumerate(batch):
            if self.most == number:
                self.most = -1
                raise RedisUnavailable("Redis went away")
            self.held.append(message)


def test_what_a_queue_did_not_take_is_sent_by_the_next_sweep(house: House) -> None:
    seed(house, 3)
    house.queue = Leaky(most=1)
    with pytest.raises(RedisUnavailable):
        sweep(house)
    assert sweep(house) == ["c0", "c1", "c2"]


def test_nobody_waits_for_a_lock_while_messages_leave(house: House) -> None:
    seed(house, 3)
    touched: list[str] = []

    class Slow(ListQueue):
        def send_all(self, batch: Any) -> None:
            with house.store.writing() as tx:
                touched.extend(id_ for message in batch for id_ in message.kwargs.values() if tx.connections.lock(id_))
            super().send_all(batch)

    house.queue = Slow()
    sweep(house)
    assert touched == ["c0", "c1", "c2"]


def test_one_queue_in_a_jam_keeps_no_other_waiting(house: House) -> None:
    seed(house, 3)
    house.queue.held.extend(messages.exchange_code(f"a{n}") for n in range(50))
    assert sweep(house) == ["c0", "c1", "c2"]
