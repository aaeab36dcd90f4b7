"""The consumers in Python and in Node, against real events: dead consumers, repeats, gaps, and a Redis that forgets."""

import fcntl
import importlib
import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from subprocess import run
from sys import executable
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, create_engine, text

from models.queue import marker_key
from tests.examples.conftest import Ground
from tests.examples.consumers import EXAMPLES, Consumers, Language, drain, ids, printed, read_lines
from tests.processes import Fleet, Listener, Program

EVENTS, RECORDS = Listener.streams
A_PAGE = 4096
"""The smallest pipe there is: it takes a few events, and then whoever prints waits."""


@pytest.fixture
def consumers(ground: Ground, language: Language, tmp_path: Path) -> Iterator[Consumers]:
    """None yet, and streams that hold nothing of other tests; what the emptying had sent once more has been sent."""
    ground.valkey.flush()
    with redis.Redis.from_url(ground.fleet.redis_url) as client:
        ground.fleet.wait_until(lambda: client.exists(marker_key) == 1, "a sweep has seen that Redis was emptied")
    found = Consumers(language, ground.fleet.redis_url, tmp_path)
    yield found
    found.kill()


@pytest.fixture
def client(ground: Ground) -> Iterator[Any]:
    with redis.Redis.from_url(ground.fleet.redis_url, decode_responses=True) as opened:
        yield opened


@pytest.fixture
def listener(consumers: Consumers, ground: Ground) -> Iterator[Listener]:
    """Receives every event, whatever the consumers receive."""
    opened = Listener(ground.fleet.redis_url)
    yield opened
    opened.close()


def connect(fleet: Fleet, listener: Listener, name: str, documents: int = 3) -> str:
    """A connection whose first sync has completed."""
    connection = fleet.connect(name, fleet.control.add_user(name, documents=documents))
    fleet.has_synced(listener, connection)
    return connection


def sync(fleet: Fleet, listener: Listener, connection: str) -> None:
    """Sync again, and wait until its events arrive."""
    before = len(listener.about(connection, "sync.completed"))
    fleet.ask("sync_connection", "sync", connection_id=connection)
    fleet.has_synced(listener, connection, before + 1)


def received(listener: Listener, connection: str) -> set[str]:
    return {event.id for event in listener.about(connection)}


def pending(client: Any) -> int:
    return sum(
        group["pending"] for key in (EVENTS, RECORDS) if client.exists(key) for group in client.xinfo_groups(key)
    )


def has_printed(fleet: Fleet, program: Program, connection: str, wanted: set[str]) -> None:
    fleet.wait_until(
        lambda: set(ids(printed(program), connection)) >= wanted, f"{program.name} has received everything"
    )


def test_what_a_dead_consumer_held_another_one_handles(
    ground: Ground, consumers: Consumers, client: Any, listener: Listener
) -> None:
    fleet = ground.fleet
    connection = connect(fleet, listener, "lise", documents=30)
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, A_PAGE)
    first = consumers.start(output=writing)
    os.close(writing)
    fleet.wait_until(lambda: pending(client) > 0, "the first consumer has read more than it can print")
    first.kill()
    before = ids(read_lines(drain(reading)), connection)
    assert pending(client) > 0
    second = consumers.start()
    everything = received(listener, connection)
    has_printed(fleet, second, connection, everything - set(before))
    fleet.wait_until(lambda: pending(client) == 0, "everything is acknowledged")
    second.stop()
    after = ids(printed(second), connection)
    # The one event in whose middle the first died may have been printed by both: a printed line can't be taken back.
    assert len(set(before) & set(after)) <= 1
    # What happened in the meantime may have been printed as well: an emptied Redis has a sync sent once more.
    assert everything <= {*before, *after} <= received(listener, connection)
    assert (len(before), len(after)) == (len(set(before)), len(set(after)))


def test_an_event_that_comes_twice_is_handled_once(
    ground: Ground, consumers: Consumers, client: Any, listener: Listener
) -> None:
    fleet = ground.fleet
    connection = connect(fleet, listener, "maria")
    _, fields = client.xrange(RECORDS)[0]
    client.xadd(RECORDS, fields)
    first = consumers.start()
    everything = received(listener, connection)
    has_printed(fleet, first, connection, everything)
    fleet.wait_until(lambda: pending(client) == 0, "everything is acknowledged")
    client.xadd(RECORDS, fields)
    sync(fleet, listener, connection)
    has_printed(fleet, first, connection, received(listener, connection))
    first.stop()
    *handled, counts = printed(first)
    assert sorted(ids(handled, connection)) == sorted(received(listener, connection))
    assert counts == {"events": len(handled), "repeats": 2, "gaps": 0}
    assert client.xinfo_consumers(EVENTS, "readers") == []


def test_a_gap_is_told_until_a_replay_has_filled_it(
    ground: Ground, consumers: Consumers, client: Any, listener: Listener
) -> None:
    fleet, began = ground.fleet, datetime.now(UTC)
    connection = connect(fleet, listener, "ida")
    first = consumers.start()
    has_printed(fleet, first, connection, received(listener, connection))
    first.stop()
    sync(fleet, listener, connection)
    lost, fields = client.xrevrange(EVENTS, count=1)[0]
    sync(fleet, listener, connection)
    client.xdel(EVENTS, lost)
    second = consumers.start()
    warning = f"missed {EVENTS} of {connection}: 1,"
    fleet.wait_until(lambda: warning in second.log.read_text(), "the gap is reported")
    second.stop()
    assert printed(second)[-1] == {"events": 1, "repeats": 0, "gaps": 1}
    replay = [executable, "-m", "worker", "events", "replay", "--since", began.isoformat()]
    run(replay, cwd=fleet.directory, env=fleet.environment, check=True, capture_output=True)
    third = consumers.start()
    fleet.wait_until(lambda: len(ids(printed(third), connection)) == 1, "the missed event is handled")
    third.stop()
    *found, counts = printed(third)
    assert ids(found, connection) == [fields["id"]]
    assert counts["gaps"] == 0


def test_an_emptied_and_a_restarted_redis_are_lived_through(
    ground: Ground, consumers: Consumers, client: Any, listener: Listener
) -> None:
    fleet = ground.fleet
    connection = connect(fleet, listener, "chien-shiung")
    consumer = consumers.start()
    has_printed(fleet, consumer, connection, received(listener, connection))
    ground.valkey.flush()
    sync(fleet, listener, connection)
    has_printed(fleet, consumer, connection, received(listener, connection))
    ground.valkey.restart()
    sync(fleet, listener, connection)
    has_printed(fleet, consumer, connection, received(listener, connection))
    consumer.stop()
    *handled, counts = printed(consumer)
    assert sorted(ids(handled, connection)) == sorted(received(listener, connection))
    assert counts["gaps"] == 0


def test_an_entry_that_cannot_be_read_holds_up_no_other(ground: Ground, consumers: Consumers, client: Any) -> None:
    client.xadd(EVENTS, {"id": "1", "event": "no document"})
    client.xadd(EVENTS, {"id": "2", "event": json.dumps({"id": "2", "subject": "s", "sequence": "1"})})
    consumer = consumers.start()
    ground.fleet.wait_until(lambda: ids(printed(consumer), "s") == ["2"], "the entry behind it is handled")
    asked = "could not be handled"
    ground.fleet.wait_until(lambda: consumer.log.read_text().count(asked) > 1, "it is tried again")
    consumer.stop()
    assert pending(client) == 1
    assert [one["pending"] for one in client.xinfo_consumers(EVENTS, "readers")] == [1]


@pytest.fixture(params=["sqlite", "postgresql"])
def memory(request: pytest.FixtureRequest) -> Iterator[Engine]:
    url = "sqlite://" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    engine = create_engine(url)
    yield engine
    engine.dispose()


def test_gaps_are_those_that_stay_and_forgetting_makes_none(memory: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES / "python")
    module = importlib.import_module("consumer")
    consumer = module.Consumer("redis://127.0.0.1:1/0", memory, [], module.print_event)
    now = round(time.time())
    long_ago, ago = now - module.month - 60, now - 600

    def store(sequence: int, at: int, subject: str = "busy") -> None:
        values = {"id": f"{subject}-{sequence}", "stream": "s", "subject": subject, "sequence": sequence, "at": at}
        with memory.begin() as db:
            db.execute(text(module.remember), values)

    for sequence in (1, 2, 4):
        store(sequence, long_ago)
        store(sequence, long_ago, "quiet")
    store(5, ago)
    store(8, now)
    assert sorted(tuple(gap) for gap in consumer.gaps()) == [("s", "busy", 1), ("s", "quiet", 1)]
    store(3, now)
    store(3, now, "quiet")
    assert consumer.gaps() == []
    consumer.look_back()
    with memory.connect() as db:
        left = db.execute(text("SELECT subject, sequence FROM breezesync_handled ORDER BY subject, sequence")).all()
    assert left == [("busy", 3), ("busy", 4), ("busy", 5), ("busy", 8), ("quiet", 3), ("quiet", 4)]
    assert consumer.gaps() == []
