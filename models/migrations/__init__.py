"""Bringing a database to the newest schema, and its views to what the profiles describe."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from models.provider import Provider
from models.store.grants import Role, grant
from models.store.views import all_views, own_views

lock_number = zlib.crc32(b"breezesync.migrate")
longest_other_migration_ms = 600_000
longest_lock_ms = 30_000
"""How long a statement of a migration waits for other sessions' locks; meanwhile everyone else waits behind it."""


def migrate(engine: Engine, providers: Iterable[Provider], roles: Sequence[Role] = ()) -> str:
    """Runs what is missing, all or nothing, and returns the revision; several callers at once wait for each other.

    `roles` are given what their processes use; without any, all privileges stay as they are.
    """
    with migrating(engine) as sql:
        config = alembic_config()
        config.attributes["connection"] = sql
        command.upgrade(config, "head")
        views = tuple(all_views(providers, sql.dialect.name))
        for name, drop, create in views:
            readers = _find_readers(sql, name)
            for statement in (drop, create, *readers):
                sql.execute(text(statement.replace(":", "\\:")))
        if roles:
            grant(sql, roles, [name for name, _, _ in views if name not in own_views])
        return MigrationContext.configure(sql).get_current_revision() or ""


def _find_readers(sql: Connection, view: str) -> list[str]:
    """Return the statements that let whoever may read a view now read the one that takes its place."""
    if sql.dialect.name != "postgresql":
        return []
    query = text(
        "SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END "
        "FROM pg_class CROSS JOIN LATERAL aclexplode(relacl) "
        "WHERE pg_class.oid = to_regclass(quote_ident(:view)) AND privilege_type = 'SELECT' AND grantee <> relowner"
    )
    quoted = '"' + view.replace('"', '""') + '"'
    return [f"GRANT SELECT ON {quoted} TO {reader}" for reader in sql.execute(query, {"view": view}).scalars()]


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
