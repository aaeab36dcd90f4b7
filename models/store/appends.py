"""Rows that are only added: the journal's, the audit's and the outbox's, kept until the end of their transaction.

A refresh adds one to each of four tables and reads none of them. So they leave together, before the commit: on
PostgreSQL as one statement, on SQLite one by one. An update of a locked row that nothing reads again in its
transaction leaves with them (`Appends.write`). Whoever reads or changes one of these tables in the same transaction
sends first what waits (`Appends.sql`).
"""

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection as SqlConnection

from models.store.statement import InsertMany, Statement, Writing, run_texts


class Appends:
    """The added rows of one transaction, in the order in which they were added."""

    def __init__(self, sql: SqlConnection) -> None:
        self.unflushed = sql
        """For statements on other tables."""
        self._waiting: dict[InsertMany, list[Mapping[str, object]]] = {}
        self._writings: list[Writing] = []

    @property
    def sql(self) -> SqlConnection:
        """The connection to the database, with everything sent that was added."""
        self.flush()
        return self.unflushed

    def add(self, insert: InsertMany, rows: Iterable[Mapping[str, object]]) -> None:
        """Add rows of one kind."""
        self._waiting.setdefault(insert, []).extend(rows)

    def write(self, statement: Statement, **values: object) -> None:
        """Write a row that this transaction has locked, together with the rows that are added.

        All of them see the tables as they were before: so nothing that is added may depend on what this writes, and no
        other such statement may write the same row.
        """
        self._writings.append((statement, values))

    @property
    def sql_after_writes(self) -> SqlConnection:
        """The connection to the database, with everything sent if an update waits."""
        self.flush_writes()
        return self.unflushed

    def sql_after(self, insert: InsertMany) -> SqlConnection:
        """Return the connection to the database, with everything sent if rows of this kind wait."""
        if insert in self._waiting:
            self.flush()
        return self.unflushed

    def flush_writes(self) -> None:
        """Send what waits if an update is among it."""
        if self._writings:
            self.flush()

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._writings and not any(self._waiting.values())

    def flush(self, ends: bool = False) -> None:
        """Send what waits; on PostgreSQL commit with it if that `ends` the transaction."""
        waiting = [(insert, rows) for insert, rows in self._waiting.items() if rows]
        writings, self._waiting, self._writings = self._writings, {}, []
        if self.unflushed.dialect.name != "postgresql":
            for statement, values in writings:
                statement.run(self.unflushed, **values)
            for insert, rows in waiting:
                insert.run(self.unflushed, rows)
        elif waiting or writings:
            prepared = ((statement.prepare("postgresql"), values) for statement, values in writings)
            texts = [(each.text, each.parameters(values)) for each, values in prepared]
            run_texts(self.unflushed, [*texts, *(insert.prepare(rows) for insert, rows in waiting)], ends)
