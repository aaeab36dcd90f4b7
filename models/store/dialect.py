"""The one statement that SQLAlchemy builds differently for SQLite and PostgreSQL: insert or update."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Table
from sqlalchemy import Connection as SqlConnection
from sqlalchemy.dialects import postgresql, sqlite


def insert_of(dialect: str, table: Table) -> Any:
    """Return the dialect's own insert, which has `on_conflict_do_update`."""
    return (postgresql.insert if dialect == "postgresql" else sqlite.insert)(table)


def insert_or_update(
    sql: SqlConnection,
    table: Table,
    values: Mapping[str, object],
    changes: Mapping[str, Any],
    where: ColumnElement[bool] | None = None,
) -> Any:
    """Insert `values`; if the primary key exists, apply `changes` to its row, provided that `where` is true."""
    key = list(table.primary_key.columns)
    inserted = insert_of(sql.dialect.name, table).values(**values)
    return inserted.on_conflict_do_update(index_elements=key, set_=dict(changes), where=where)
