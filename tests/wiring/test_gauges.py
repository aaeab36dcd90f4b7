"""What `/metrics` says of events that wait."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client import generate_latest

from models.events import About, ConnectionRefreshed
from models.migrations import migrate
from models.secrets import Secret
from models.store import Store, open_engine
from worker.gauges import build_registry

noon = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_the_lag_is_the_age_of_the_event_that_waits_longest(tmp_path: Path) -> None:
    store = Store(open_engine(Secret(f"sqlite:///{tmp_path}/b.db")))
    migrate(store.engine, [])
    registry = build_registry(store, lambda: noon)
    assert "breezesync_event_lag_seconds 0.0" in generate_latest(registry).decode()
    with store.writing() as tx:
        for seconds in (90, 30):
            tx.outbox.append(About("p", "u", "c"), [ConnectionRefreshed(1, None)], noon - timedelta(seconds=seconds))
    told = generate_latest(registry).decode()
    assert "breezesync_event_lag_seconds 90.0" in told
    assert "breezesync_events_unpublished 2.0" in told
    store.close()


def test_without_a_database_nothing_is_said(tmp_path: Path) -> None:
    store = Store(open_engine(Secret(f"sqlite:///{tmp_path}")))
    assert generate_latest(build_registry(store, lambda: noon)) == b""
    store.close()
