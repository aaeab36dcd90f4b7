"""Statements that are built once: SQLAlchemy makes their text from the schema, and the driver runs it.

To build a statement at each call, and to run it through SQLAlchemy's result, costs five times what the driver needs for
it. So what runs with every refresh and every page is a `Statement` at the module's top: its text, the conversion of
its values and that of its rows are made once for each dialect. It runs in the transaction of the SQLAlchemy connection
it is given, beside statements that are built where they are used, and fails with the same errors.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import psycopg
from psycopg.types.array import ListBinaryDumper
from sqlalchemy import ARRAY, JSON, ColumnElement, Dialect, Table, any_, bindparam, func, insert, select
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import cast as cast_to
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.sql.base import Executable
from sqlalchemy.types import TypeEngine

from models import exact_json
from models.store.driver import execute, put, send
from models.store.pipeline import Answer, Pending

Row = tuple[Any, ...]
Convert = Callable[[Any], Any]
Build = Callable[[str], Executable]

float_oid = 701
"""The type that PostgreSQL gives every number with a fraction of this schema: SQLAlchemy asks for it."""
dialects: Mapping[str, Dialect] = {
    "postgresql": PGDialect_psycopg(paramstyle="numeric_dollar", json_serializer=exact_json.dumps),  # type: ignore[no-untyped-call]
    "sqlite": SQLiteDialect_pysqlite(json_serializer=exact_json.dumps),
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement for one dialect.

    text: what goes to the driver.
    names: the parameters of the text, in their order.
    fixed: the values of those that the statement gives itself.
    to_driver: conversions of parameters, by their place; most need none.
    from_driver: conversions of a row's columns, by their place; most need none.
    """

    text: str
    names: tuple[str, ...]
    fixed: Mapping[str, object]
    to_driver: tuple[tuple[int, Convert], ...]
    from_driver: tuple[tuple[int, Convert], ...]

    def parameters(self, values: Mapping[str, object]) -> list[Any]:
        """Return what the driver takes."""
        fixed = self.fixed
        parameters = [values[name] if name in values else fixed[name] for name in self.names]
        for place, convert in self.to_driver:
            parameters[place] = convert(parameters[place])
        return parameters

    def convert(self, row: Sequence[Any]) -> Row:
        """Return a row of the driver as the schema's types."""
        if not self.from_driver:
            return tuple(row)
        converted = list(row)
        for place, convert in self.from_driver:
            converted[place] = convert(converted[place])
        return tuple(converted)


class Statement:
    """One statement. `build` makes it for a dialect by name, or is the statement itself if it is the same for all.

    A parameter is a `bindparam` of the statement. `writes` are the columns that an insert or update is given values
    for, each under the column's name: so no other parameter may have such a name.
    """

    def __init__(self, build: Executable | Build, writes: Iterable[str] = ()) -> None:
        self.build = build
        self.writes = tuple(writes)
        self._prepared: dict[str, Prepared] = {}

    def prepare(self, dialect: str) -> Prepared:
        """Return the statement for this dialect, built at its first use."""
        prepared = self._prepared.get(dialect)
        if prepared is None:
            prepared = self._prepared[dialect] = _compile(self, dialects[dialect])
        return prepared

    def run(self, sql: SqlConnection, **values: object) -> int:
        """Run it and return how many rows it changed."""
        prepared = self.prepare(sql.dialect.name)
        return execute(sql, prepared.text, prepared.parameters(values)).rowcount

    def all(self, sql: SqlConnection, **values: object) -> list[Row]:
        """Run it and return its rows."""
        prepared = self.prepare(sql.dialect.name)
        rows = execute(sql, prepared.text, prepared.parameters(values)).rows
        return [prepared.convert(row) for row in rows]

    def first(self, sql: SqlConnection, **values: object) -> Row | None:
        """Run it and return its first row; None if there is none."""
        rows = self.all(sql, **values)
        return rows[0] if rows else None

    def put(self, sql: SqlConnection, **values: object) -> "Rows":
        """Run it, on PostgreSQL with the next one of its transaction or with COMMIT: then its rows arrive."""
        prepared = self.prepare(sql.dialect.name)
        return Rows(sql, prepared, put(sql, prepared.text, prepared.parameters(values)))

    def scalar(self, sql: SqlConnection, **values: object) -> Any:
        """Run it and return the first column of its first row; None if there is none."""
        row = self.first(sql, **values)
        return None if row is None else row[0]


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a statement that goes with the next one of its transaction; whoever asks for them first sends it."""

    sql: SqlConnection
    prepared: Prepared
    pending: Pending

    def all(self) -> list[Row]:
        """Return the rows."""
        return [self.prepared.convert(row) for row in self._answer.rows]

    @property
    def count(self) -> int:
        """How many rows it changed."""
        return self._answer.rowcount

    @property
    def _answer(self) -> Answer:
        if not self.pending.has_arrived:
            send(self.sql)
        return self.pending.answer


class Column(list[Any]):
    """The values of one column of many rows, which are sent in binary.

    As text psycopg escapes each quote of each value by itself, which cost more than everything else that a page of JSON
    documents needs.
    """


psycopg.adapters.register_dumper(Column, ListBinaryDumper)

Derive = Callable[[Any], Mapping[str, ColumnElement[Any]]]


Writing = tuple[Statement, Mapping[str, object]]
"""A statement and its values."""


class InsertMany:
    """Rows for a table: one statement on PostgreSQL, however many there are; on SQLite each is a step of the file.

    `alike` are the columns whose value is usually the same in all of the rows: it is then sent once, and not as a list.
    `derive` makes columns from those that are given, as expressions of the row; the others are stored as they are.
    """

    def __init__(
        self, table: Table, columns: Sequence[str], alike: Sequence[str] = (), derive: Derive = lambda given: {}
    ) -> None:
        self.columns = tuple(columns)
        self.alike = tuple(alike)
        types = {name: table.c[name].type for name in self.columns}

        def insert_from(given: Any) -> Executable:
            chosen = {name: given[name] for name in self.columns} | dict(derive(given))
            return insert(table).inline().from_select(list(chosen), select(*chosen.values()))

        def many(once: Sequence[str]) -> Executable:
            each = [name for name in self.columns if name not in once]
            lists = (bindparam(name, type_=ARRAY(types[name], dimensions=1)) for name in each)
            rows = func.unnest(*lists).table_valued(*each, name="given").render_derived().c
            if not once:
                return insert_from(rows)
            # A NULL says nothing about its type.
            given = select(
                *(cast_to(bindparam(name, type_=types[name]), types[name]).label(name) for name in once), *rows
            )
            return insert_from(given.subquery("all_given").c)

        def one_alone() -> Executable:
            row = select(*(bindparam(name, type_=kind).label(name) for name, kind in types.items()))
            return insert_from(row.subquery("given").c)

        self._differing = Statement(lambda dialect: many(()))
        self._alike = Statement(lambda dialect: many(self.alike))
        self._alone = Statement(lambda dialect: one_alone())

    def run(self, sql: SqlConnection, rows: Sequence[Mapping[str, object]]) -> None:
        """Insert the rows; each has a value for every column."""
        if not rows:
            return
        if sql.dialect.name == "postgresql":
            execute(sql, *self.prepare(rows))
            return
        for row in rows:
            self._alone.run(sql, **row)

    def prepare(self, rows: Sequence[Mapping[str, object]]) -> tuple[str, list[Any]]:
        """Return one statement for PostgreSQL that inserts the rows, with its parameters."""
        first = rows[0]
        if len(rows) == 1:
            alone = self._alone.prepare("postgresql")
            return alone.text, alone.parameters(first)
        once = self.alike if all(row[name] == first[name] for name in self.alike for row in rows) else ()
        at_once = (self._alike if once else self._differing).prepare("postgresql")
        columns = {name: first[name] if name in once else [row[name] for row in rows] for name in self.columns}
        values = zip(at_once.names, at_once.parameters(columns), strict=True)
        return at_once.text, [value if name in once else Column(value) for name, value in values]


def run_together(sql: SqlConnection, writings: Sequence[Writing]) -> int:
    """Run several statements, on PostgreSQL as one; return how many rows the last of them changed.

    Each sees the tables as they were before all of them, so no two may write the same row.
    """
    if len(writings) == 1 or sql.dialect.name != "postgresql":
        return [statement.run(sql, **values) for statement, values in writings][-1]
    prepared = [(statement.prepare("postgresql"), values) for statement, values in writings]
    return run_texts(sql, [(each.text, each.parameters(values)) for each, values in prepared])


def run_texts(sql: SqlConnection, parts: Sequence[tuple[str, Sequence[Any]]], ends: bool = False) -> int:
    """Like `run_together`, of texts for PostgreSQL with their parameters; commit with them if they are to end it."""
    text = _join(tuple(text for text, _ in parts)) if len(parts) > 1 else parts[0][0]
    return execute(sql, text, [value for _, values in parts for value in values], ends).rowcount


@cache
def _join(texts: Sequence[str]) -> str:
    """Return one statement that runs all of these, with their parameters one after the other."""
    numbered, before = [], 0
    for text in texts:
        numbered.append(_renumber(text, before))
        before += max((int(number) for number in _parameter.findall(text)), default=0)
    *first, last = numbered
    named = ", ".join(f"part_{place} AS ({text})" for place, text in enumerate(first))
    return f"WITH {named} {last}"


def _renumber(text: str, before: int) -> str:
    """Return the text with its parameters counted from the one after `before`."""
    return _parameter.sub(lambda found: f"${int(found[1]) + before}", text)


_parameter = re.compile(r"\$(\d+)")


def is_one_of(dialect: str, column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """Return the condition that the column is one of the list in parameter `name`: one text, however long it is."""
    if dialect == "postgresql":
        return column == any_(bindparam(name, type_=ARRAY(column.type, dimensions=1)))
    each = func.json_each(bindparam(name, type_=JSON())).table_valued("value")
    return column.in_(select(each.c.value))


def _compile(statement: Statement, dialect: Dialect) -> Prepared:
    construct: Any = statement.build if isinstance(statement.build, Executable) else statement.build(dialect.name)
    compiled = construct.compile(dialect=dialect, column_keys=list(statement.writes) or None)
    names = tuple(compiled.positiontup or ())
    binds = [compiled.binds[name] for name in names]
    defaults = {column.key: column.default.arg for column in getattr(compiled, "insert_prefetch", ())}
    returned = [column.type for column in construct.exported_columns]
    return Prepared(
        text=compiled.string,
        names=names,
        fixed={name: bind.value for name, bind in zip(names, binds, strict=True) if not bind.required} | defaults,
        to_driver=_conversions([bind.type for bind in binds], lambda own: own.bind_processor(dialect), dialect),
        from_driver=_conversions(returned, lambda own: own.result_processor(dialect, float_oid), dialect),
    )


def _conversions(
    types: Sequence[TypeEngine[Any]], choose: Callable[[TypeEngine[Any]], Convert | None], dialect: Dialect
) -> tuple[tuple[int, Convert], ...]:
    chosen = ((place, choose(own.dialect_impl(dialect))) for place, own in enumerate(types))
    return tuple((place, convert) for place, convert in chosen if convert is not None)
