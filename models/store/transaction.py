"""Open the database, begin and end transactions, and translate the database's errors to ours."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg.errors import ReadOnlySqlTransaction, SerializationFailure
from sqlalchemy import URL, Engine, RootTransaction, create_engine, event, make_url, text
from sqlalchemy import Connection as SqlConnection
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from models import exact_json
from models.crypto.secrets import Secret
from models.errors import StoreConflict, StoreRefused, StoreUnavailable
from models.store.appends import Appends
from models.store.audit import Audit
from models.store.authorizations import Authorizations
from models.store.calls import Calls
from models.store.clients import Clients
from models.store.connections import Connections
from models.store.credentials import Credentials
from models.store.days import Days
from models.store.due_work import Due
from models.store.figures import Figures
from models.store.gateway import Gateway
from models.store.journal import Journal
from models.store.outbox import Outbox
from models.store.overview import Overview
from models.store.private_files import close_to_others, make_directory, make_file
from models.store.processes import Processes
from models.store.records import Records
from models.store.refusals import Refusals
from models.store.revocations import Revocations
from models.store.sealed_fields import Seals
from models.store.search import Search
from models.store.statement import run_text
from models.store.sync_runs import Runs
from models.store.tables import metadata
from models.store.token_rate_limits import Paces
from models.store.trouble import explain, hide_values
from models.store.webhooks import Webhooks

busy_timeout_ms = 20_000
"""How long a write on SQLite waits for another one: writes go one at a time."""
lock_timeout_ms = 5_000
"""How long a statement on PostgreSQL waits for a lock; no transaction of ours keeps one for so long."""
idle_timeout_ms = 10_000
"""A transaction that stalls blocks everyone who waits for its locks: PostgreSQL ends it after this time."""
ready_timeout_ms = 2_000
postgres_defaults: dict[str, Any] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 20_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
"""What libpq is told unless DATABASE_URL says something else."""

has_settings = "has_settings"
"""What a connection to the database notes of itself: that its settings hold outside of transactions as well."""

Result = TypeVar("Result")


class Transaction:
    """One transaction, with an object for each subject of the database; `actor` is who acts, for the audit."""

    def __init__(self, sql: SqlConnection, actor: str) -> None:
        self.sql = sql
        self.actor = actor
        self.appends = Appends(sql)

    @cached_property
    def audit(self) -> Audit:
        return Audit(self.appends, self.actor)

    @cached_property
    def authorizations(self) -> Authorizations:
        return Authorizations(self.appends)

    @cached_property
    def calls(self) -> Calls:
        return Calls(self.sql)

    @cached_property
    def clients(self) -> Clients:
        return Clients(self.sql)

    @cached_property
    def connections(self) -> Connections:
        return Connections(self.sql)

    @cached_property
    def credentials(self) -> Credentials:
        return Credentials(self.sql)

    @cached_property
    def days(self) -> Days:
        return Days(self.sql)

    @cached_property
    def due(self) -> Due:
        return Due(self.sql)

    @cached_property
    def figures(self) -> Figures:
        return Figures(self.sql)

    @cached_property
    def gateway(self) -> Gateway:
        return Gateway(self.sql)

    @cached_property
    def journal(self) -> Journal:
        return Journal(self.appends, self.audit)

    @cached_property
    def outbox(self) -> Outbox:
        return Outbox(self.appends)

    @cached_property
    def overview(self) -> Overview:
        return Overview(self.sql)

    @cached_property
    def paces(self) -> Paces:
        return Paces(self.sql)

    @cached_property
    def processes(self) -> Processes:
        return Processes(self.sql)

    @cached_property
    def records(self) -> Records:
        return Records(self.appends)

    @cached_property
    def refusals(self) -> Refusals:
        return Refusals(self.sql)

    @cached_property
    def revocations(self) -> Revocations:
        return Revocations(self.sql)

    @cached_property
    def runs(self) -> Runs:
        return Runs(self.sql)

    @cached_property
    def search(self) -> Search:
        return Search(self.sql)

    @cached_property
    def seals(self) -> Seals:
        return Seals(self.sql)

    @cached_property
    def webhooks(self) -> Webhooks:
        return Webhooks(self.sql)


class Store:
    """The database: `writing()` commits its block or rolls it back; `reading()` changes nothing.

    `actor` is whom the audit names for what this process does: web, worker, scheduler, or `operator:` and a name.
    """

    def __init__(self, engine: Engine, actor: str = "worker") -> None:
        self.engine = engine
        self.actor = actor

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        with _our_errors(), self._begun() as sql:
            tx = Transaction(sql, self.actor)
            yield tx
            tx.appends.flush()

    @property
    def locks_rows(self) -> bool:
        """Whether writers lock what they write, as on PostgreSQL; on SQLite they lock the whole database."""
        return self.engine.dialect.name == "postgresql"

    @property
    def has_days(self) -> bool:
        """Whether history is in days that are made and dropped (see `models/store/days.py`)."""
        return self.engine.dialect.name == "postgresql"

    @contextmanager
    def counting(self) -> Iterator[Transaction]:
        """Like `writing`, for a count that is taken before another transaction writes what is counted.

        On PostgreSQL its commit does not wait for the disk, so that its lock is short. Yet a crash of the server can't
        uncount what happened: the log reaches the disk in order, and the later commit, which does wait, takes this one
        with it. What a crash can lose is only the count of what was never written.
        """
        with _our_errors(), self._begun(waits_for_disk=False) as sql:
            tx = Transaction(sql, self.actor)
            yield tx
            tx.appends.flush()

    @contextmanager
    def repeating(self) -> Iterator[Transaction]:
        """Like `writing`, for a note of something that is simply done again if the note is lost.

        On PostgreSQL its commit does not wait for the disk: a crash of the server may take it back. So an event may
        leave again with its id, as it may if the publisher dies before it has marked it.
        """
        with _our_errors(), self._begun(waits_for_disk=False) as sql:
            tx = Transaction(sql, self.actor)
            yield tx
            tx.appends.flush()

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        with _our_errors(), self._begin({"reads_only": True})[0] as sql:
            yield Transaction(sql, self.actor)

    @contextmanager
    def read_then_add(self, read: Callable[[Transaction], Result]) -> Iterator[tuple[Result, Transaction]]:
        """Read with one statement, then add what the block adds, with one more, when it ends: two transactions.

        In the block none is open, so it may wait for Redis. On PostgreSQL each statement commits by itself, without the
        round trips that begin and end a transaction. `read` runs a `Statement`, and may run twice.
        """
        with _our_errors():
            sql, found = self._retry(lambda: self._try_to_read(read))
            with sql:
                tx = Transaction(sql, self.actor)
                yield found, tx
                if not tx.appends.is_empty:
                    with _begun_if_needed(sql):
                        tx.appends.flush()

    def check(self) -> None:
        """Raise if the database does not answer, was never migrated, or takes no writes within two seconds."""
        with _our_errors(), self._begun(lock_timeout_ms=ready_timeout_ms) as sql:
            sql.execute(text("SELECT version_num FROM alembic_version"))
            if sql.dialect.name == "postgresql":
                # The lock that every write takes. It fails on a standby, and while someone else has locked a table.
                tables = ", ".join(f'"{name}"' for name in _written_tables(sql))
                sql.execute(text(f"LOCK TABLE {tables} IN ROW EXCLUSIVE MODE"))
            sql.rollback()

    @contextmanager
    def _begun(self, **options: object) -> Iterator[SqlConnection]:
        sql, transaction = self._begin(options)
        with sql, transaction:
            yield sql

    def _begin(self, options: Mapping[str, object]) -> tuple[SqlConnection, RootTransaction]:
        """Take a connection and begin: BEGIN, which goes anyway, shows whether the connection still works.

        One that was lost while it lay idle says that the server was away, and then the others are lost, too.
        """
        return self._retry(lambda: self._try_to_begin(options))

    def _retry(self, begin: Callable[[], Result]) -> Result:
        try:
            return begin()
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            self.engine.dispose()
        return begin()

    def _try_to_begin(self, options: Mapping[str, object]) -> tuple[SqlConnection, RootTransaction]:
        sql = self.engine.connect()
        try:
            return (sql.execution_options(**options) if options else sql), sql.begin()
        except BaseException:
            sql.close()
            raise

    def _try_to_read(self, read: Callable[[Transaction], Result]) -> tuple[SqlConnection, Result]:
        sql = self.engine.connect()
        try:
            sql.execution_options(reads_only=True)
            with _begun_if_needed(sql):
                found = read(Transaction(sql, self.actor))
            return sql.execution_options(reads_only=False), found
        except BaseException:
            sql.close()
            raise

    def close(self) -> None:
        self.engine.dispose()


def _begun_if_needed(sql: SqlConnection) -> AbstractContextManager[object]:
    """Return a transaction for one statement, if that needs one: for the settings that go with BEGIN.

    Where SQLAlchemy has begun one by itself, it raises: that one would be rolled back in the end.
    """
    return nullcontext() if sql.info.get(has_settings) and not sql.in_transaction() else sql.begin()


def _written_tables(sql: SqlConnection) -> list[str]:
    """Return the tables that this role may change rows of; the role of a process owns none, and need not write all."""
    may_write = text(
        "SELECT name FROM unnest(CAST(:names AS text[])) AS name "
        "WHERE has_table_privilege(quote_ident(name), 'UPDATE') OR has_table_privilege(quote_ident(name), 'DELETE')"
    )
    return list(sql.execute(may_write, {"names": [table.name for table in metadata.sorted_tables]}).scalars())


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
    return engine


def _prepare_postgres(connection: psycopg.Connection[Any], record: Any) -> None:
    """Prepare no statements on a connection through a pooler, which shows by a process id that is not the server's.

    A statement is prepared on one server connection, and the next transaction may run on another. A connection that
    leads to one server connection for good is given the settings on which statements outside of transactions rely.
    """
    found = connection.execute("SELECT pg_backend_pid()").fetchone()
    if found is not None and found[0] != connection.info.backend_pid:
        connection.prepare_threshold = None
        return
    connection.execute(
        "SET default_transaction_isolation = 'read committed'; SET timezone = 'UTC'; "
        f"SET lock_timeout = {lock_timeout_ms}"
    )
    record.info[has_settings] = True


def _begin_postgres(sql: SqlConnection) -> None:
    """Begin with what every transaction relies on, whatever the server's or the role's defaults are."""
    options = sql.get_execution_options()
    lock_ms = options.get("lock_timeout_ms", lock_timeout_ms)
    idle_ms = options.get("idle_timeout_ms", idle_timeout_ms)
    disk = "" if options.get("waits_for_disk", True) else "; SET LOCAL synchronous_commit = off"
    run_text(
        sql,
        "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL timezone = 'UTC'; "
        f"SET LOCAL lock_timeout = {lock_ms}; SET LOCAL idle_in_transaction_session_timeout = {idle_ms}{disk}",
    )


def _prepare_sqlite(connection: sqlite3.Connection, record: Any) -> None:
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(sql: SqlConnection) -> None:
    """Lock at the beginning of a write: SQLite fails at once if a reader upgrades while another process writes."""
    options = sql.get_execution_options()
    run_text(sql, f"PRAGMA busy_timeout = {options.get('lock_timeout_ms', busy_timeout_ms)}")
    run_text(sql, "BEGIN" if options.get("reads_only") else "BEGIN IMMEDIATE")


@contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        if isinstance(error.orig, SerializationFailure):
            raise StoreConflict("another transaction moved the same row first") from error
        raise StoreUnavailable(f"the database {explain(error).said} ({_class_of(error)})") from error
    except IntegrityError as error:
        raise StoreConflict("another transaction wrote the same row first") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise StoreUnavailable("the connection to the database was lost") from error
        if isinstance(error.orig, ReadOnlySqlTransaction):
            raise StoreUnavailable("the database is read-only at the moment") from error
        raise StoreRefused(f"the database refused a statement ({_class_of(error)})") from error
    except SQLAlchemyError as error:
        raise StoreUnavailable(f"no connection to the database ({type(error).__name__})") from error


def _class_of(error: DBAPIError) -> str:
    return type(error.orig).__name__
