"""How a statement that is built once reaches the database, in the transaction of a SQLAlchemy connection."""

import sqlite3
from collections.abc import Sequence
from typing import Any, cast

import psycopg
from sqlalchemy import Connection as SqlConnection
from sqlalchemy.exc import DBAPIError

from models.store.pipeline import Answer, Pipeline
from models.store.trouble import hide_values_of

has_settings = "has_settings"
"""What a connection to the database notes of itself: that it leads to one server connection for good, which was given
the settings of every transaction and keeps prepared statements."""


def execute(sql: SqlConnection, text: str, parameters: Sequence[Any], ends: bool = False) -> Answer:
    """Run a statement and return its answer. On PostgreSQL it may end its transaction: then COMMIT goes with it."""
    try:
        if sql.dialect.name == "postgresql":
            return pipeline_of(sql).run(text, parameters, ends)
        cursor = _cursor_of(sql).execute(text, parameters)
        return Answer(cursor.fetchall(), cursor.rowcount)
    except (psycopg.Error, sqlite3.Error) as error:
        raise wrap_error(sql, text, error) from error
    except BaseException:
        if _is_lost(sql):
            sql.invalidate()
        raise


def begin_postgres(sql: SqlConnection, *texts: str) -> None:
    """Begin a transaction with these, which go with its first statement; raise if the connection is lost."""
    try:
        pipeline_of(sql).begin(*texts)
    except psycopg.Error as error:
        raise wrap_error(sql, texts[0], error) from error


def send_begin(sql: SqlConnection) -> None:
    """Send what begins the transaction, before a statement of SQLAlchemy's own."""
    try:
        pipeline_of(sql).send_begin()
    except psycopg.Error as error:
        raise wrap_error(sql, "BEGIN", error) from error


def begin_sqlite(sql: SqlConnection, *texts: str) -> None:
    """Begin a transaction with these."""
    try:
        for text in texts:
            _cursor_of(sql).execute(text)
    except sqlite3.Error as error:
        raise wrap_error(sql, texts[-1], error) from error


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
