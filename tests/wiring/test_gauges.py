"""What `/metrics` says of events that wait."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from time import monotonic, sleep

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from redis.exceptions import RedisError

from models.crypto.secrets import Secret
from models.messaging.events import About, ConnectionRefreshed
from models.oauth.connection import Connection, Status
from models.process import Process
from models.queue import Depth
from models.store import Store, open_engine
from tests.databases import create_sqlite, open_fast_engine
from worker.web.metrics import KeptMetrics, build_registry

noon = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_the_lag_is_the_age_of_the_event_that_waits_longest(tmp_path: Path) -> None:
    store = Store(open_fast_engine(create_sqlite(tmp_path / "b.db")))
    registry = build_registry(store, lambda: noon, kept_for=0)
    assert "breezesync_event_lag_seconds 0.0" in generate_latest(registry).decode()
    with store.writing() as tx:
        for seconds in (90, 30):
            tx.outbox.append(About("p", "u", "c"), [ConnectionRefreshed(1, None)], noon - timedelta(seconds=seconds))
    told = generate_latest(registry).decode()
    assert "breezesync_event_lag_seconds 90.0" in told
    assert "breezesync_events_unpublished 2.0" in told
    store.close()


def redis_is_away() -> dict[str, Depth]:
    raise RedisError


def test_what_stands_what_is_due_and_what_waits_is_told(tmp_path: Path) -> None:
    store = Store(open_fast_engine(create_sqlite(tmp_path / "b.db")))
    with store.writing() as tx:
        for number, status in enumerate((Status.active, Status.active, Status.revoked)):
            made = Connection(f"c{number}", "ada", "p", "client", str(number), status, noon)
            problem = "refused" if number == 1 else None
            tx.connections.add(replace(made, sync_due_at=noon - timedelta(minutes=number), problem=problem))
        for name, minutes in (("worker a", 1), ("worker b", 3), ("worker a", 0)):
            tx.processes.report(Process(name, "worker", "1.2", noon - timedelta(minutes=minutes)))
        for client_id in ("c1", "c2"):
            client = tx.clients.lock("p", client_id)
            tx.clients.save(replace(client, paused_at=noon if client_id == "c2" else None))
        tx.clients.lock("q", "c3")
    told = generate_latest(build_registry(store, lambda: noon, lambda: {"sync": Depth(7, 2, 1)})).decode().splitlines()
    store.close()
    expected = [
        'breezesync_connections{problem="",provider="p",status="active"} 1.0',
        'breezesync_connections{problem="refused",provider="p",status="active"} 1.0',
        'breezesync_connections{problem="",provider="p",status="revoked"} 1.0',
        'breezesync_connections{problem="",provider="p",status="disconnected"} 0.0',
        'breezesync_client_rejected{client_id="c1",provider="p"} 0.0',
        'breezesync_processes{role="worker",version="1.2"} 1.0',
        'breezesync_due{kind="syncs"} 3.0',
        'breezesync_provider_unavailable{provider="p"} 1.0',
        'breezesync_provider_unavailable{provider="q"} 0.0',
        "breezesync_oldest_due_age_seconds 120.0",
        'breezesync_queue_messages{queue="sync",state="waiting"} 7.0',
        'breezesync_queue_messages{queue="sync",state="under_way"} 2.0',
        'breezesync_queue_messages{queue="sync",state="dead"} 1.0',
    ]
    assert [line for line in expected if line not in told] == []


def test_without_redis_the_database_s_figures_are_told_all_the_same(tmp_path: Path) -> None:
    store = Store(open_fast_engine(create_sqlite(tmp_path / "b.db")))
    told = generate_latest(build_registry(store, lambda: noon, redis_is_away)).decode()
    store.close()
    assert ("breezesync_connections" in told, "breezesync_queue_messages" in told) == (True, False)


def test_without_a_database_nothing_is_said(tmp_path: Path) -> None:
    store = Store(open_engine(Secret(f"sqlite:///{tmp_path}")))
    assert generate_latest(build_registry(store, lambda: noon)) == b""
    store.close()


def test_figures_are_kept_for_a_while_and_longer_if_they_took_long() -> None:
    asked: list[int] = []

    class Slow:
        def collect(self) -> list[Metric]:
            asked.append(1)
            sleep(0.02)
            return [Metric("a", "A.", "gauge")]

    kept = KeptMetrics(Slow(), least=0.01)
    first = kept.collect()
    sleep(0.05)
    assert kept.collect() is first, "0.02 s of work are kept for 0.4 s"
    assert len(asked) == 1


def test_what_waits_is_counted_up_to_a_bound(tmp_path: Path) -> None:
    store = Store(open_fast_engine(create_sqlite(tmp_path / "b.db")))
    with store.writing() as tx:
        tx.outbox.append(About("p", "u", "c"), [ConnectionRefreshed(n, None) for n in range(5)], noon)
        assert (tx.outbox.backlog(3), tx.outbox.backlog()) == ((3, noon), (5, noon))
        for number in range(3):
            made = Connection(f"c{number}", "ada", "p", "client", str(number), Status.active, noon)
            tx.connections.add(replace(made, sync_due_at=noon))
        assert (tx.overview.due(noon, 2)["syncs"], tx.overview.due(noon)["syncs"]) == (2, 3)
    store.close()


def test_no_scrape_waits_twice_for_figures_that_take_long() -> None:
    asked: list[int] = []
    go_on = Event()

    class Slow:
        def collect(self) -> list[Metric]:
            asked.append(1)
            assert len(asked) == 1 or go_on.wait(10)
            return [Metric(f"a{len(asked)}", "A.", "gauge")]

    kept = KeptMetrics(Slow(), least=0, patience=-1)
    assert [each.name for each in kept.collect()] == ["a1"]
    for _ in range(3):
        assert [each.name for each in kept.collect()] == ["a1"], "the second reading is under way"
    assert len(asked) == 2
    go_on.set()
    until = monotonic() + 10
    while kept.collect()[0].name == "a1":
        assert monotonic() < until
