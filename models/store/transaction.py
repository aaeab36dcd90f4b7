"""Begin and end transactions, and translate the database's errors to ours."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import TypeVar

from psycopg.errors import DeadlockDetected, ReadOnlySqlTransaction, SerializationFailure
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import Engine, RootTransaction, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from models.errors import StoreConflict, StoreRefused, StoreUnavailable
from models.store.appends import Appends
from models.store.audit import Audit
from models.store.authorizations import Authorizations
from models.store.calls import Calls
from models.store.clients import Clients
from models.store.connections import Connections
from models.store.credentials import Credentials
from models.store.days import Days
from models.store.driver import has_settings, send
from models.store.due_work import Due
from models.store.figures import Figures
from models.store.gateway import Gateway
from models.store.journal import Journal
from models.store.outbox import Outbox
from models.store.overview import Overview
from models.store.pipeline import no_longer_prepared
from models.store.processes import Processes
from models.store.records import Records
from models.store.refusals import Refusals
from models.store.revocations import Revocations
from models.store.sealed_fields import Seals
from models.store.search import Search
from models.store.sync_runs import Runs
from models.store.tables import metadata
from models.store.token_rate_limits import Paces
from models.store.trouble import explain, repairable
from models.store.webhooks import Webhooks

ready_timeout_ms = 2_000

Result = TypeVar("Result")


class Transaction:
    """One transaction, with an object for each subject of the database.

    actor: who acts, for the audit.
    counts: whether it is there to take from a token endpoint's budget, and over with that.
    """

    def __init__(self, sql: SqlConnection, actor: str, counts: bool = False) -> None:
        self.sql = sql
        self.actor = actor
        self.counts = counts
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
        return Paces(self.sql, is_alone=self.counts)

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
            tx.appends.flush(ends=True)

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
        """Like `writing`, for a count that is taken before another transaction writes what is counted; it ends with it.

        On PostgreSQL its commit does not wait for the disk, so that its lock is short. Yet a crash of the server can't
        uncount what happened: the log reaches the disk in order, and the later commit, which does wait, takes this one
        with it. What a crash can lose is only the count of what was never written.
        """
        with _our_errors(), self._begun(waits_for_disk=False) as sql:
            tx = Transaction(sql, self.actor, counts=True)
            yield tx
            tx.appends.flush(ends=True)

    @contextmanager
    def repeating(self) -> Iterator[Transaction]:
        """Like `writing`, for a note of something that is simply done again if the note is lost.

        On PostgreSQL its commit does not wait for the disk: a crash of the server may take it back. So an event may
        leave again with its id, as it may if the publisher dies before it has marked it.
        """
        with _our_errors(), self._begun(waits_for_disk=False) as sql:
            tx = Transaction(sql, self.actor)
            yield tx
            tx.appends.flush(ends=True)

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        with _our_errors(), self._begin({"reads_only": True})[0] as sql:
            yield Transaction(sql, self.actor)
            send(sql)

    def read_once(self, read: Callable[[Transaction], Result]) -> Result:
        """Return what one `Statement` reads, on PostgreSQL without the round trips that begin and end a transaction.

        `read` may run twice.
        """
        with _our_errors():
            sql, found = self._retry(lambda: self._try_to_read(read))
            sql.close()
            return found

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


@contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        if isinstance(error.orig, (SerializationFailure, DeadlockDetected)):
            raise StoreConflict("another transaction moved the same row first") from error
        raise StoreUnavailable(f"the database {explain(error).said} ({_class_of(error)})") from error
    except IntegrityError as error:
        raise StoreConflict("another transaction wrote the same row first") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise StoreUnavailable("the connection to the database was lost") from error
        if isinstance(error.orig, no_longer_prepared):
            raise StoreConflict("a migration changed what a statement reads first") from error
        if isinstance(error.orig, ReadOnlySqlTransaction):
            raise StoreUnavailable("the database is read-only at the moment") from error
        if isinstance(error.orig, repairable):
            raise StoreUnavailable(f"the database {explain(error).said} ({_class_of(error)})") from error
        raise StoreRefused(f"the database refused a statement ({_class_of(error)})") from error
    except SQLAlchemyError as error:
        raise StoreUnavailable(f"no connection to the database ({type(error).__name__})") from error


def _class_of(error: DBAPIError) -> str:
    return type(error.orig).__name__
