"""Every sealed column of every table: which keys sealed its texts, and how a text is resealed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Column, ColumnElement, Table, Text, and_, func, select, tuple_, type_coerce, update
from sqlalchemy import Connection as SqlConnection

from models.crypto.secrets import Sealed
from models.store.rows import table_of
from models.store.tables import ConnectionRow, CredentialRow, SealedText, metadata

connections = table_of(ConnectionRow)
credentials = table_of(CredentialRow)


@dataclass(frozen=True, slots=True)
class Field:
    """A column of sealed texts."""

    column: Column[Sealed]

    @property
    def table(self) -> Table:
        table: Table = self.column.table
        return table

    @property
    def name(self) -> str:
        return f"{self.table.name}.{self.column.name}"


@dataclass(frozen=True, slots=True)
class Found:
    """A sealed text and its row's primary key."""

    key: tuple[str, ...]
    sealed: Sealed


fields: tuple[Field, ...] = tuple(
    Field(column) for table in metadata.sorted_tables for column in table.columns if isinstance(column.type, SealedText)
)


class Seals:
    """Sealed texts by their prefix: everything up to and including the last dot, which names the key."""

    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def count(self, field: Field, prefix: str) -> int:
        query = select(func.count()).select_from(field.table).where(_begins_with(field, prefix))
        return self.sql.execute(query).scalar_one()

    def others(
        self, field: Field, prefixes: Sequence[str], after: tuple[str, ...] | None = None, limit: int = 1
    ) -> Sequence[Found]:
        """Return texts with none of these prefixes, ordered by primary key, after the key `after`."""
        key = list(field.table.primary_key.columns)
        query = select(*key, field.column).where(
            field.column.is_not(None), *(~_begins_with(field, prefix) for prefix in prefixes)
        )
        if after is not None:
            query = query.where(tuple_(*key) > tuple_(*after))
        rows = self.sql.execute(query.order_by(*key).limit(limit)).all()
        return [Found(tuple(row[:-1]), row[-1]) for row in rows]

    def replace(self, field: Field, changes: Mapping[Found, Sealed]) -> int:
        """Replace each text that has not changed since it was read; return how many were replaced.

        Locks connections before their credentials, in the order of their ids, like every writer: no deadlock.
        """
        if field.table is credentials:
            ids = sorted(found.key[0] for found in changes)
            locking = select(connections.c.id).where(connections.c.id.in_(ids)).order_by(connections.c.id)
            self.sql.execute(locking.with_for_update()).all()
        return sum(self._replace_one(field, found, changes[found]) for found in sorted(changes, key=lambda f: f.key))

    def _replace_one(self, field: Field, found: Found, sealed: Sealed) -> int:
        same_row = and_(*(c == value for c, value in zip(field.table.primary_key.columns, found.key, strict=True)))
        statement = update(field.table).where(same_row, field.column == found.sealed)
        return self.sql.execute(statement.values({field.column: sealed})).rowcount


def _begins_with(field: Field, prefix: str) -> ColumnElement[bool]:
    """Compare with substr, because LIKE ignores case on SQLite: `k1` would match `K1`."""
    return func.substr(type_coerce(field.column, Text), 1, len(prefix)) == prefix
