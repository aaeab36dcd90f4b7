"""Bringing a database to the newest schema, and its views to what the profiles describe."""

import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from models.provider import Provider
from models.store.views import view_statements

lock_number = zlib.crc32(b"breezesync.migrate")
longest_other_migration_ms = 600_000
longest_lock_ms = 30_000
"""How long a statement of a migration waits for other sessions' locks; meanwhile everyone else waits behind it."""


def migrate(engine: Engine, providers: Iterable[Provider]) -> str:
    """Runs what is missing, all or nothing, and returns the revision; several callers at once wait for each other."""
    with migrating(engine) as sql:
        config = alembic_config()
        config.attributes["connection"] = sql
        command.upgrade(config, "head")
        for provider in providers:
            for view in provider.views:
                for statement in view_statements(provider, view, sql.dialect.name):
                    sql.execute(text(statement.replace(":", "\\:")))
        return MigrationContext.configure(sql).get_current_revision() or ""


def newest_revision() -> str:
    return ScriptDirectory.from_config(alembic_config()).get_current_head() or ""


def known_revisions() -> frozenset[str]:
    return frozenset(script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions())


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return config


@contextmanager
def migrating(engine: Engine) -> Iterator[Connection]:
    """One transaction that no other migration shares: SQLite's write lock, or PostgreSQL's advisory lock.

    It may take its time between two statements, so the limit on idle transactions does not apply.
    """
    waits = engine.execution_options(lock_timeout_ms=longest_other_migration_ms, idle_timeout_ms=0)
    with waits.begin() as sql:
        if sql.dialect.name == "postgresql":
            sql.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": lock_number})
            sql.execute(text(f"SET LOCAL lock_timeout = {longest_lock_ms}"))
        yield sql
