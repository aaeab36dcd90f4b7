"""Open the database: SQLite or PostgreSQL, with what every transaction relies on."""

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy import Connection as SqlConnection

from models import exact_json
from models.crypto.secrets import Secret
from models.private_files import close_to_others, make_directory, make_file
from models.store.driver import begin_postgres, begin_sqlite, end, has_settings, pipeline_of, send
from models.store.trouble import hide_values

busy_timeout_ms = 20_000
"""How long a write on SQLite waits for another one: writes go one at a time."""
lock_timeout_ms = 5_000
"""How long a statement on PostgreSQL waits for a lock; no transaction of ours keeps one for so long."""
idle_timeout_ms = 10_000
"""A transaction that stalls blocks everyone who waits for its locks: PostgreSQL ends it after this time."""
postgres_defaults: dict[str, Any] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 20_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
"""What libpq is told unless DATABASE_URL says something else."""

usual_settings = {
    "timezone": "'UTC'",
    "lock_timeout": str(lock_timeout_ms),
    "idle_in_transaction_session_timeout": str(idle_timeout_ms),
}
"""What holds in a transaction, as SQL."""


def open_engine(database_url: Secret) -> Engine:
    """Return an engine: SQLite in WAL mode that waits for locks, or PostgreSQL."""
    url = make_url(database_url.reveal())
    if url.get_backend_name() != "sqlite":
        return _open_postgres(url)
    if url.database and url.database != ":memory:":
        _make_private(Path(url.database))
    arguments = {"timeout": busy_timeout_ms / 1000, "check_same_thread": False}
    engine = create_engine(url, json_serializer=exact_json.dumps, connect_args=arguments, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_private(path: Path) -> None:
    """Have the file and the two beside it closed to others before anything is written; SQLite copies the first's mode.

    If that can't be done, SQLite itself says why when it is opened.
    """
    make_directory(path.parent)
    with suppress(OSError):
        make_file(path)
        for suffix in ("-wal", "-shm"):
            close_to_others(path.with_name(path.name + suffix))


def _open_postgres(url: URL) -> Engine:
    """Return an engine that also works through a pooler which gives each transaction another server connection.

    So it sends no settings with the start of a session, which a pooler refuses, and through one none that would outlive
    a transaction: they go with BEGIN, in one round trip. What DATABASE_URL asks for goes first.
    """
    defaults = {name: value for name, value in postgres_defaults.items() if name not in url.query}
    engine = create_engine(
        url,
        json_serializer=exact_json.dumps,
        hide_parameters=True,
        pool_size=16,
        max_overflow=16,
        connect_args={**defaults, "client_encoding": "utf8", "autocommit": True},
    )
    event.listen(engine, "handle_error", hide_values)
    event.listen(engine, "connect", _prepare_postgres)
    event.listen(engine, "begin", _begin_postgres)
    event.listen(engine, "before_cursor_execute", _send_waiting)
    event.listen(engine, "commit", _commit)
    event.listen(engine, "rollback", _leave)
    return engine


def _prepare_postgres(connection: psycopg.Connection[Any], record: Any) -> None:
    """Prepare a new connection; one through a pooler shows by a process id that is not the server's.

    A statement is prepared on one server connection, and the next transaction may run on another. A connection that
    leads to one server connection for good is given the settings, which then need not go with each transaction.
    """
    connection.prepare_threshold = None
    found = connection.execute("SELECT pg_backend_pid()").fetchone()
    if found is not None and found[0] != connection.info.backend_pid:
        return
    settings = {"default_transaction_isolation": "'read committed'", **usual_settings}
    connection.execute("; ".join(f"SET {name} = {value}" for name, value in settings.items()).encode())
    record.info[has_settings] = True


def _begin_postgres(sql: SqlConnection) -> None:
    """Begin with what every transaction relies on, whatever the server's or the role's defaults are."""
    options = sql.get_execution_options()
    settings = usual_settings | {
        "lock_timeout": str(options.get("lock_timeout_ms", lock_timeout_ms)),
        "idle_in_transaction_session_timeout": str(options.get("idle_timeout_ms", idle_timeout_ms)),
    }
    if not options.get("waits_for_disk", True):
        settings["synchronous_commit"] = "off"
    holds = usual_settings if sql.info.get(has_settings) else {}
    own = (f"SET LOCAL {name} = {value}" for name, value in settings.items() if holds.get(name) != value)
    begin_postgres(sql, "BEGIN ISOLATION LEVEL READ COMMITTED", *own)


def _send_waiting(sql: SqlConnection, *unused: object) -> None:
    """Let a statement that SQLAlchemy runs find the transaction begun."""
    send(sql)


def _commit(sql: SqlConnection) -> None:
    """Commit with what waits; what comes next on this connection is no longer in the transaction's block."""
    end(sql)
    pipeline_of(sql).leave()


def _leave(sql: SqlConnection) -> None:
    """Forget what a transaction that is taken back has not sent; a connection that was lost sends nothing more."""
    if not sql.invalidated:
        pipeline_of(sql).leave()


def _prepare_sqlite(connection: sqlite3.Connection, record: Any) -> None:
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(sql: SqlConnection) -> None:
    """Lock at the beginning of a write: SQLite fails at once if a reader upgrades while another process writes."""
    options = sql.get_execution_options()
    timeout = f"PRAGMA busy_timeout = {options.get('lock_timeout_ms', busy_timeout_ms)}"
    begin_sqlite(sql, timeout, "BEGIN" if options.get("reads_only") else "BEGIN IMMEDIATE")
