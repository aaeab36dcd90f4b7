"""How an application that queries SQLite finds our own times."""

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import text

from models.oauth.connection import Connection, Status
from models.store import Store
from tests.databases import create_sqlite, open_fast_engine


def test_a_time_is_text_in_utc_that_sqlite_s_functions_read(tmp_path: Path) -> None:
    store = Store(open_fast_engine(create_sqlite(tmp_path / "b.db")))
    with store.writing() as tx:
        created_at = datetime(2026, 3, 1, 12, tzinfo=UTC)
        tx.connections.add(Connection("c", "ada", "p", "client", "1", Status.active, created_at))
        query = "SELECT created_at, julianday(created_at) = julianday('2026-03-01T12:00:00.000Z') FROM connection"
        [row] = tx.sql.execute(text(query)).all()
    store.close()
    assert tuple(row) == ("2026-03-01 12:00:00.000000", 1)
