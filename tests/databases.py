"""Migrated databases for tests: each is a copy of one that was migrated once in this process.

Flows run on SQLite. A test about what two of them do at once is marked `both_databases` and runs on PostgreSQL as well,
because the two lock differently. `ALL_DATABASES=1` in the environment runs every test of the flows on both.
"""

import os
import tempfile
from functools import cache
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine, event, make_url

from config.profiles import profile_directories, read_profile
from models.crypto.secrets import Secret
from models.migrations import migrate
from models.store import open_engine
from tests.servers import Postgres

BOTH = ("sqlite", "postgresql")
DATABASES = BOTH if os.environ.get("ALL_DATABASES") else ("sqlite",)

both_databases = pytest.mark.parametrize("database", BOTH)
"""The mark for a test, or a module, about concurrency."""


def migrate_database(url: str) -> None:
    """Bring the database at `url` to the newest schema, with the views of the shipped profile."""
    engine = open_fast_engine(url)
    migrate(engine, [read_profile("breezedoc", {}, profile_directories())])
    engine.dispose()


def open_fast_engine(url: str) -> Engine:
    """Open an engine as production does, except that SQLite does not wait for the disk: no test survives a crash."""
    engine = open_engine(Secret(url))
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    return engine


def create_sqlite(path: Path) -> str:
    """Write a migrated SQLite database to `path` and return its URL."""
    path.write_bytes(_migrated_file())
    return f"sqlite:///{path}"


def prepare_database(url: str) -> None:
    """Give the database at `url` its schema if it has none yet; a SQLite file that is not there is copied."""
    parsed = make_url(url)
    path = Path(parsed.database or "")
    if parsed.get_backend_name() == "sqlite" and not path.exists():
        create_sqlite(path)
    else:
        migrate_database(url)


@cache
def _migrated_file() -> bytes:
    with tempfile.TemporaryDirectory(prefix="breezesync-") as directory:
        path = Path(directory) / "template.db"
        migrate_database(f"sqlite:///{path}")
        return path.read_bytes()


def create_template(postgres: Postgres) -> str:
    """Return the URL of a migrated PostgreSQL database to which no one is connected, so that it can be copied."""
    url = postgres.create_database()
    migrate_database(url)
    _forget_days_ahead(url)
    return url


def _forget_days_ahead(url: str) -> None:
    """Drop the partitions of coming days, 85 of 445 files that are copied for each test: a scheduler makes them."""
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as connection:
        names = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '_day_[0-9]{8}$' "
            "AND right(relname, 8) > to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')"
        )
        for (name,) in names.fetchall():
            connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))
