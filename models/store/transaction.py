"""Open the database, begin and end transactions, and translate the database's errors to ours."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from psycopg.errors import ReadOnlySqlTransaction
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from models.crypto.secrets import Secret
from models.errors import StoreConflict, StoreRefused, StoreUnavailable
from models.store.authorizations import Authorizations
from models.store.clients import Clients
from models.store.connections import Connections
from models.store.credentials import Credentials
from models.store.due_work import Due
from models.store.journal import Journal
from models.store.outbox import Outbox
from models.store.overview import Overview
from models.store.records import Records
from models.store.revocations import Revocations
from models.store.sealed_fields import Seals
from models.store.sync_runs import Runs
from models.store.token_rate_limits import Paces

busy_timeout_ms = 20_000
# A transaction that stalls blocks everyone who waits for its locks: PostgreSQL ends it after this time.
postgres_options = "-c timezone=UTC -c idle_in_transaction_session_timeout=10000"


class Transaction:
    """One transaction, with an object for each subject of the database."""

    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    @cached_property
    def authorizations(self) -> Authorizations:
        return Authorizations(self.sql)

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
    def due(self) -> Due:
        return Due(self.sql)

    @cached_property
    def journal(self) -> Journal:
        return Journal(self.sql)

    @cached_property
    def outbox(self) -> Outbox:
        return Outbox(self.sql)

    @cached_property
    def overview(self) -> Overview:
        return Overview(self.sql)

    @cached_property
    def paces(self) -> Paces:
        return Paces(self.sql)

    @cached_property
    def records(self) -> Records:
        return Records(self.sql)

    @cached_property
    def revocations(self) -> Revocations:
        return Revocations(self.sql)

    @cached_property
    def runs(self) -> Runs:
        return Runs(self.sql)

    @cached_property
    def seals(self) -> Seals:
        return Seals(self.sql)


class Store:
    """The database: `writing()` commits its block or rolls it back; `reading()` changes nothing."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        with _our_errors(), self.engine.begin() as sql:
            yield Transaction(sql)

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        with _our_errors(), self.engine.connect() as sql:
            yield Transaction(sql.execution_options(reads_only=True))

    def check(self) -> None:
        """Raise if the database does not answer or was never migrated."""
        with self.reading() as tx:
            tx.sql.execute(text("SELECT version_num FROM alembic_version"))

    def close(self) -> None:
        self.engine.dispose()


def open_engine(database_url: Secret) -> Engine:
    """Return an engine: SQLite in WAL mode that waits for locks, PostgreSQL with connections checked before use."""
    url = make_url(database_url.reveal())
    if url.get_backend_name() != "sqlite":
        return create_engine(
            url,
            pool_pre_ping=True,
            pool_size=16,
            max_overflow=16,
            connect_args={"connect_timeout": 5, "tcp_user_timeout": 20_000, "options": postgres_options},
        )
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": busy_timeout_ms / 1000, "check_same_thread": False})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, record: Any) -> None:
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(sql: SqlConnection) -> None:
    """Lock at the beginning of a write: SQLite fails at once if a reader upgrades while another process writes."""
    sql.exec_driver_sql("BEGIN" if sql.get_execution_options().get("reads_only") else "BEGIN IMMEDIATE")


@contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise StoreUnavailable(f"the database does not answer ({_class_of(error)})") from error
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
