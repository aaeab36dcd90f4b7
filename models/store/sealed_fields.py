"""Every sealed column of every table: which keys sealed its texts, and how a text is resealed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Select,
    Table,
    Text,
    and_,
    func,
    null,
    or_,
    select,
    tuple_,
    type_coerce,
    update,
)
from sqlalchemy import Connection as SqlConnection

from models.crypto.sealed_text import NotSealed, Place, key_id, prefix_of
from models.crypto.secrets import Sealed
from models.store.rows import table_of
from models.store.tables import ConnectionRow, CredentialRow, SealedText, metadata

connections = table_of(ConnectionRow)
credentials = table_of(CredentialRow)


@dataclass(frozen=True, slots=True)
class Found:
    """A sealed text, its row's primary key, and the generation of a token's connection."""

    key: tuple[str, ...]
    sealed: Sealed
    generation: int | None = None


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

    def place(self, found: Found) -> Place:
        return Place(self.table.name, "/".join(found.key), self.column.name, found.generation)


fields: tuple[Field, ...] = tuple(
    Field(column) for table in metadata.sorted_tables for column in table.columns if isinstance(column.type, SealedText)
)


class Seals:
    """Sealed texts by their prefix, which names the key."""

    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def count(self, field: Field, prefix: str) -> int:
        query = select(func.count()).select_from(field.table).where(_begins_with(field.column, prefix))
        return self.sql.execute(query).scalar_one()

    def count_others(self, field: Field, prefixes: Sequence[str]) -> int:
        """Count the texts with none of these prefixes."""
        other = (~_begins_with(field.column, prefix) for prefix in prefixes)
        query = select(func.count()).select_from(field.table).where(field.column.is_not(None), *other)
        return self.sql.execute(query).scalar_one()

    def others(
        self, field: Field, prefixes: Sequence[str], after: tuple[str, ...] | None = None, limit: int = 1
    ) -> Sequence[Found]:
        """Return texts with none of these prefixes, ordered by primary key, after the key `after`."""
        key = list(field.table.primary_key.columns)
        conditions = [field.column.is_not(None), *(~_begins_with(field.column, prefix) for prefix in prefixes)]
        if after is not None:
            conditions.append(tuple_(*key) > tuple_(*after))
        return self._find(_select_texts(field).where(*conditions).order_by(*key).limit(limit))

    def _first_of(self, field: Field, prefix: str, limit: int) -> Sequence[Found]:
        return self._find(_select_texts(field).where(_begins_with(field.column, prefix)).limit(limit))

    def _find(self, query: Select[Any]) -> Sequence[Found]:
        return [Found(tuple(row[:-2]), row[-2], row[-1]) for row in self.sql.execute(query).all()]

    def samples(self, prefix: str, limit: int) -> list[tuple[Sealed, Place]]:
        """Return texts that begin with this prefix, at most so many of each field, with their places."""
        return [
            (found.sealed, field.place(found)) for field in fields for found in self._first_of(field, prefix, limit)
        ]

    def count_by_key(self) -> dict[str, dict[str, int]]:
        """Count the texts of each field by their key's id; what is no sealed text counts under `?`."""
        counts: dict[str, dict[str, int]] = {}
        for field in fields:
            for prefix, name in self._prefixes(field, ()):
                by_key = counts.setdefault(field.name, {})
                by_key[name] = by_key.get(name, 0) + self.count(field, prefix)
        return counts

    def count_rows_of_others(self, known: Sequence[str]) -> dict[str, int]:
        """Count the rows that need each key whose texts have none of these prefixes."""
        rows: dict[str, int] = {}
        for table in dict.fromkeys(field.table for field in fields):
            own = [field for field in fields if field.table is table]
            needed = {prefix: name for field in own for prefix, name in self._prefixes(field, known) if name != "?"}
            for prefix, name in needed.items():
                begins = or_(*(_begins_with(field.column, prefix) for field in own))
                count = self.sql.execute(select(func.count()).select_from(table).where(begins)).scalar_one()
                rows[name] = rows.get(name, 0) + count
        return rows

    def _prefixes(self, field: Field, known: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield each prefix in use that is not known yet, with its key's id."""
        seen = list(known)
        while others := self.others(field, seen):
            seen.append(prefix_of(others[0].sealed))
            yield seen[-1], name_key(others[0].sealed)

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


def name_key(sealed: Sealed) -> str:
    """Return the id of the key that sealed it, `?` if there is none."""
    try:
        return key_id(sealed)
    except NotSealed:
        return "?"


def _select_texts(field: Field) -> Select[Any]:
    """Select each row's key, text and generation."""
    query = select(*field.table.primary_key.columns, field.column, _generation_of(field))
    return query.join_from(credentials, connections) if field.table is credentials else query


def _generation_of(field: Field) -> ColumnElement[Any]:
    return connections.c.generation if field.table is credentials else null()


def _begins_with(column: Column[Sealed], prefix: str) -> ColumnElement[bool]:
    """Compare with substr, because LIKE ignores case on SQLite: `k1` would match `K1`."""
    return func.substr(type_coerce(column, Text), 1, len(prefix)) == prefix
