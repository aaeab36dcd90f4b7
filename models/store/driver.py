"""How a statement that is built once reaches the database, in the transaction of a SQLAlchemy connection."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import psycopg
from sqlalchemy import Connection as SqlConnection
from sqlalchemy.exc import DBAPIError

from models.store.pipeline import Answer, Pending, Pipeline
from models.store.trouble import hide_values_of

Result = TypeVar("Result")

has_settings = "has_settings"
"""What a connection to the database notes of itself: that it leads to one server connection for good, which was given
the settings of every transaction and keeps prepared statements."""


def execute(sql: SqlConnection, text: str, parameters: Sequence[Any], ends: bool = False) -> Answer:
    """Run a statement and return its answer. On PostgreSQL it may end its transaction: then COMMIT goes with it."""
    if sql.dialect.name == "postgresql":
        return _try(text, sql, lambda: pipeline_of(sql).run(text, parameters, ends))
    return _try(text, sql, lambda: _execute_sqlite(sql, text, parameters))


def _execute_sqlite(sql: SqlConnection, text: str, parameters: Sequence[Any]) -> Answer:
    cursor = _cursor_of(sql).execute(text, parameters)
    return Answer(cursor.fetchall(), cursor.rowcount)


def put(sql: SqlConnection, text: str, parameters: Sequence[Any]) -> Pending:
    """Run a statement, on PostgreSQL with the next one of its transaction or with COMMIT: then its answer arrives.

    Outside of a transaction it runs at once: nothing would send it but a statement of someone else.
    """
    pending = Pending()
    if sql.dialect.name != "postgresql" or not sql.in_transaction():
        pending.arrive(execute(sql, text, parameters))
        return pending
    _try(text, sql, lambda: pipeline_of(sql).put(text, parameters, pending))
    return pending


def end(sql: SqlConnection) -> None:
    """Commit with what waits for a statement of its transaction, if anything does; on SQLite nothing ever does."""
    if sql.dialect.name == "postgresql":
        _try("COMMIT", sql, pipeline_of(sql).end)


def begin_again(sql: SqlConnection) -> None:
    """Begin another transaction in the block of one that was ended; on SQLite that one goes on."""
    if sql.dialect.name == "postgresql":
        pipeline_of(sql).begin_again()


def begin_postgres(sql: SqlConnection, *texts: str) -> None:
    """Begin a transaction with these, which go with its first statement; raise if the connection is lost."""
    _try(texts[0], sql, lambda: pipeline_of(sql).begin(*texts))


def send(sql: SqlConnection) -> None:
    """Send what waits for a statement of its transaction; on SQLite nothing ever does."""
    if sql.dialect.name == "postgresql":
        _try("BEGIN", sql, pipeline_of(sql).send)


def _try(text: str, sql: SqlConnection, act: Callable[[], Result]) -> Result:
    """Call the driver and translate its errors into SQLAlchemy's; a connection that is lost leaves the pool."""
    try:
        return act()
    except (psycopg.Error, sqlite3.Error) as error:
        raise wrap_error(sql, text, error) from error
    except BaseException:
        if _is_lost(sql):
            sql.invalidate()
        raise


def begin_sqlite(sql: SqlConnection, *texts: str) -> None:
    """Begin a transaction with these."""
    for text in texts:
        execute(sql, text, ())


def pipeline_of(sql: SqlConnection) -> Pipeline:
    """Return the pipeline of a connection to PostgreSQL."""
    info = sql.info
    pipeline = info.get("pipeline")
    if pipeline is None:
        driver = cast("psycopg.Connection[Any]", sql.connection.driver_connection)
        pipeline = info["pipeline"] = Pipeline(driver, prepares=bool(info.get(has_settings)))
    return cast(Pipeline, pipeline)


def _cursor_of(sql: SqlConnection) -> sqlite3.Cursor:
    """Return the one cursor that statements share on a connection to SQLite."""
    info = sql.info
    cursor = info.get("cursor")
    if cursor is None:
        driver = cast(sqlite3.Connection, sql.connection.driver_connection)
        cursor = info["cursor"] = driver.cursor()
    return cast(sqlite3.Cursor, cursor)


def wrap_error(sql: SqlConnection, text: str, error: psycopg.Error | sqlite3.Error) -> DBAPIError:
    """Return the error of SQLAlchemy for one of a driver, as SQLAlchemy raises it: without the values of rows."""
    hide_values_of(error)
    # What failed may have been put before the statement that was run.
    text = next(iter(getattr(error, "__notes__", ())), text)
    lost = _is_lost(sql)
    if lost:
        sql.invalidate(error)
    base = psycopg.Error if isinstance(error, psycopg.Error) else sqlite3.Error
    wrapped: Any = DBAPIError.instance(
        text, None, error, base, hide_parameters=True, connection_invalidated=lost, dialect=sql.dialect
    )
    return cast(DBAPIError, wrapped)


def _is_lost(sql: SqlConnection) -> bool:
    if sql.invalidated:
        return False
    driver = sql.connection.driver_connection
    return isinstance(driver, psycopg.Connection) and driver.closed
