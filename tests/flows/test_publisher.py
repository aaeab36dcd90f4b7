"""What a worker commits leaves from the worker itself, and by a message where it can't: never late, never lost."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
import redis
from sqlalchemy import text
from structlog.testing import capture_logs

from models.errors import RedisUnavailable
from models.messaging import messages
from models.messaging.messages import Message
from tests.databases import both_databases
from tests.flows.test_outbox import append, assert_in_order, heard, publisher
from tests.harness import House
from tests.servers import wait_until
from tests.statements import Sent, counting_statements
from worker.queue import publisher as module
from worker.queue.publish import publish_lease
from worker.queue.publisher import Publisher

publish_events = messages.publish_events()


@dataclass
class Publishing:
    """Counts what it is asked; fails as often as there are errors, is `busy` so often, and waits while it is held."""

    errors: list[Exception] = field(default_factory=list)
    busy: int = 0
    times: int = 0
    go: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.go.set()

    def __call__(self, gather: Callable[[], None]) -> bool:
        assert self.go.wait(30)
        self.times += 1
        if self.errors:
            raise self.errors.pop(0)
        self.busy -= 1
        return self.busy < 0


@contextmanager
def running(publish: Callable[[Callable[[], None]], bool]) -> Iterator[tuple[Publisher, list[Message]]]:
    sent: list[Message] = []
    made = Publisher(publish, sent.append)
    made.start()
    yield made, sent
    made.stop()


def test_a_running_publisher_publishes_instead_of_sending_a_message() -> None:
    publish = Publishing()
    with running(publish) as (made, sent):
        made.send(publish_events)
        wait_until(lambda: publish.times == 1, "it is published")
        made.send(messages.carry_out_refresh("c1"))
    assert sent == [messages.carry_out_refresh("c1")]


def test_without_a_worker_and_after_it_a_message_has_another_worker_publish() -> None:
    sent: list[Message] = []
    publish = Publishing()
    made = Publisher(publish, sent.append)
    made.send(publish_events)
    made.start()
    made.stop()
    before = publish.times
    made.send(publish_events)
    assert (sent, publish.times) == ([publish_events] * 2, before)


def test_what_comes_while_it_publishes_is_published_together() -> None:
    publish = Publishing()
    publish.go.clear()
    with running(publish) as (made, sent):
        for _ in range(100):
            made.send(publish_events)
        publish.go.set()
        wait_until(lambda: publish.times >= 1, "it is published")
    assert publish.times <= 3
    assert sent == []


@pytest.mark.parametrize(
    ("error", "logged"),
    [(RedisUnavailable("Redis went away"), "message.left_to_sweep"), (ZeroDivisionError(), "publisher.broken")],
)
def test_a_failure_is_one_line_and_the_next_events_leave(error: Exception, logged: str) -> None:
    publish = Publishing(errors=[error])
    with capture_logs() as lines, running(publish) as (made, _):
        made.send(publish_events)
        wait_until(lambda: publish.times == 1, "it has failed")
        made.send(publish_events)
        wait_until(lambda: publish.times == 2, "it is published")
    assert [line["event"] for line in lines] == [logged]


def test_while_another_publishes_it_tries_again_until_nothing_can_be_left() -> None:
    publish = Publishing(busy=3)
    with running(publish) as (made, _):
        made.send(publish_events)
        wait_until(lambda: publish.times == 4, "it was its turn")


def test_a_stop_publishes_what_was_committed_before_it() -> None:
    publish = Publishing()
    publish.go.clear()
    with running(publish) as (made, sent):
        made.send(publish_events)
        stopping = threading.Thread(target=made.stop)
        stopping.start()
        publish.go.set()
        stopping.join(30)
        assert publish.times >= 1
    assert sent == []


def test_a_stop_does_not_wait_for_what_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "stop_seconds", 0.05)
    publish = Publishing()
    publish.go.clear()
    with running(publish) as (made, sent):
        made.send(publish_events)
        made.stop()
        made.send(publish_events)
        assert sent == [publish_events]
        publish.go.set()


@pytest.fixture
def application(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@both_databases
def test_every_event_of_many_threads_leaves_once_and_in_order(house: House, application: Any) -> None:
    """Two processes publish, and each of their flows adds to its own connection."""
    with running(publisher(house, application)) as (one, _), running(publisher(house, application)) as (other, _):

        def flow(number: int, made: Publisher) -> None:
            for _ in range(25):
                append(house, 2, f"c{number}")
                made.send(publish_events)

        threads = [threading.Thread(target=flow, args=(n, (one, other)[n % 2])) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        wait_until(lambda: application.xlen("e") >= 200, "all have left")
    for number in range(4):
        told = heard(application, connection_id=f"c{number}")
        assert len(told) == 50
        assert_in_order(told, 50)


@both_databases
def test_a_publisher_waits_for_the_lease_of_one_that_died(house: House, application: Any) -> None:
    append(house, 3)
    with house.store.writing() as tx:
        assert tx.outbox.lease("one that died", house.clock(), house.clock() + publish_lease)
    publish = publisher(house, application)
    assert publish() is False
    house.clock.turn(publish_lease - timedelta(seconds=0.1))
    with running(publish) as (made, _):
        made.send(publish_events)
        wait_until(lambda: application.xlen("e") == 3, "the lease has run out")
    assert_in_order(heard(application), 3)


def publishing(house: House, publish: Callable[[], bool]) -> Sent:
    """Return what a publisher sends to the database until the outbox is empty."""
    with counting_statements(house.store.engine) as sent:
        assert publish() is True
    return sent


@both_databases
def test_a_batch_is_a_transaction_and_its_marks_go_with_the_next(house: House, application: Any) -> None:
    publish = publisher(house, application)
    append(house, 3)
    lone = publishing(house, publish)
    coming = [5, 4, 3]

    def gather() -> None:
        if coming:
            append(house, coming.pop())

    append(house, 3)
    with counting_statements(house.store.engine) as sent:
        assert publish(gather) is True
    appended = 3  # transactions of those who append
    assert (lone.commits, sent.commits - appended) == (2, 5), str(sent)
    assert_in_order(heard(application), 18)


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_publisher_does_not_wait_for_the_disk(house: House, application: Any) -> None:
    append(house, 3)
    sent = publishing(house, publisher(house, application))
    assert (len(sent.statements), sent.commits, sent.durable) == (6, 2, 0), str(sent)


@both_databases
def test_an_empty_outbox_is_looked_at_and_not_written_to(house: House, application: Any) -> None:
    publish = publisher(house, application)
    append(house, 3)
    publish()
    before = leases(house)
    house.clock.turn(timedelta(seconds=1))
    assert publish() is True
    assert leases(house) == before


@both_databases
def test_a_publisher_whose_lease_ran_out_still_marks_what_it_has_added(house: House, application: Any) -> None:
    append(house, 3)

    def gather() -> None:
        house.clock.turn(publish_lease)
        with house.store.writing() as tx:
            assert tx.outbox.lease("another", house.clock(), house.clock() + publish_lease)

    assert publisher(house, application)(gather) is True
    with house.store.reading() as tx:
        assert tx.outbox.backlog()[0] == 0
    assert_in_order(heard(application), 3)


def leases(house: House) -> list[Any]:
    with house.store.reading() as tx:
        return list(tx.sql.execute(text("SELECT name, owner, until FROM lease")))
