"""Each process reports itself to its database and to its Redis, and a second fleet on that Redis is seen by it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fakeredis
import pytest

from config.process_reports import ProcessReporter, names_key, read_names
from models.clock import Anchor, Reading
from models.process import Process
from models.store import Store
from tests.databases import create_sqlite, open_fast_engine

noon = datetime(2026, 11, 28, 12, tzinfo=UTC)
every = timedelta(seconds=10)


def measured(number: int, ahead: float = 0.0, precision: float = 0.0) -> Anchor:
    """Return a measurement of a clock, ten seconds after the one before."""
    fleet = noon + number * every
    return Anchor(fleet, Reading(fleet + timedelta(seconds=ahead), number * every), timedelta(seconds=precision))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(open_fast_engine(create_sqlite(tmp_path / "b.db")))
    yield opened
    opened.close()


def reports_in(store: Store) -> list[Process]:
    with store.reading() as tx:
        return list(tx.processes.since(noon - timedelta(days=1)))


def test_every_third_measurement_replaces_the_report(store: Store) -> None:
    client = fakeredis.FakeRedis(decode_responses=True)
    report = ProcessReporter(store, client, "worker a:1", "worker", "1.2")
    for number in range(3):
        report(measured(number))
    assert reports_in(store) == [Process("worker a:1", "worker", "1.2", noon, 0.0)]
    report(measured(3))
    assert reports_in(store) == [Process("worker a:1", "worker", "1.2", noon + 3 * every, 0.0)]
    assert read_names(client, noon + 3 * every) == ["worker a:1"]


def test_a_clock_that_goes_wrong_and_is_right_again_is_reported_at_once(store: Store) -> None:
    report = ProcessReporter(store, fakeredis.FakeRedis(), "worker a:1", "worker", "1.2")
    said: list[tuple[int, float]] = []
    for number, ahead in enumerate((0.0, 0.0, 70.0, 71.0, -3600.0, 0.0, 0.0)):
        report(measured(number, ahead))
        [row] = reports_in(store)
        said.append(((row.reported_at - noon) // every, row.ahead_seconds))
    assert said == [(0, 0.0), (0, 0.0), (2, 70.0), (3, 71.0), (3, 71.0), (5, 0.0), (6, 0.0)]


@pytest.mark.parametrize(
    ("ahead", "precision", "reported"),
    [(0.9, 0.0, 0.0), (-0.9, 0.0, 0.0), (1.5, 0.0, 1.5), (-2.0, 0.0, -2.0), (3.0, 3.0, 0.0), (70.0, 3.0, 70.0)],
)
def test_only_what_is_certainly_off_is_reported(store: Store, ahead: float, precision: float, reported: float) -> None:
    measurement = measured(0, ahead, precision)
    ProcessReporter(store, fakeredis.FakeRedis(), "worker a:1", "worker", "1.2")(measurement)
    assert [each.ahead_seconds for each in reports_in(store)] == [reported]


def test_a_wrong_clock_that_the_database_did_not_take_is_reported_by_the_next_measurement(store: Store) -> None:
    server = fakeredis.FakeServer()
    report = ProcessReporter(store, fakeredis.FakeRedis(server=server), "worker a:1", "worker", "1.2")
    report(measured(0))
    server.connected = False
    report(measured(1, 70.0))
    server.connected = True
    report(measured(2, 70.0))
    [row] = reports_in(store)
    assert (row.reported_at, row.ahead_seconds) == (noon + 2 * every, 70.0)


def test_a_report_that_redis_did_not_take_is_made_by_the_next_measurement(store: Store) -> None:
    server = fakeredis.FakeServer()
    client = fakeredis.FakeRedis(server=server, decode_responses=True)
    report = ProcessReporter(store, client, "worker a:1", "worker", "1.2")
    server.connected = False
    report(measured(0))
    server.connected = True
    report(measured(1))
    assert read_names(client, noon) == ["worker a:1"]


def test_a_name_that_the_database_did_not_take_is_not_in_redis() -> None:
    client = fakeredis.FakeRedis(decode_responses=True)
    away = Store(open_fast_engine("sqlite:////no/such/directory/b.db"))
    ProcessReporter(away, client, "worker a:1", "worker", "1.2")(measured(0))
    away.close()
    assert not client.exists(names_key)


def test_a_name_that_was_not_reported_for_two_minutes_is_forgotten(store: Store) -> None:
    client = fakeredis.FakeRedis(decode_responses=True)
    for name, number in (("worker a:1", 0), ("worker b:2", 9)):
        ProcessReporter(store, client, name, "worker", "1.2")(measured(number))
    assert read_names(client, noon + 13 * every) == ["worker b:2"]
    assert client.hkeys(names_key) == ["worker b:2"]
