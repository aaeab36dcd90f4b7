"""Rows that are only added: the journal's, the audit's and the outbox's, kept until the end of their transaction.

A refresh adds one to each of four tables and reads none of them. So they leave together, before the commit: on
PostgreSQL as one statement, on SQLite one by one. Whoever reads or changes one of these tables in the same transaction
sends first what waits (`Appends.sql`).
"""

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection as SqlConnection

from models.store.statement import InsertMany, run_texts


class Appends:
    """The added rows of one transaction, in the order in which they were added."""

    def __init__(self, sql: SqlConnection) -> None:
        self.unflushed = sql
        """For statements on other tables."""
        self._waiting: dict[InsertMany, list[Mapping[str, object]]] = {}

    @property
    def sql(self) -> SqlConnection:
        """The connection to the database, with everything sent that was added."""
        self.flush()
        return self.unflushed

    def add(self, insert: InsertMany, rows: Iterable[Mapping[str, object]]) -> None:
        """Add rows of one kind."""
        self._waiting.setdefault(insert, []).extend(rows)

    def flush(self) -> None:
        """Send what waits."""
        waiting = [(insert, rows) for insert, rows in self._waiting.items() if rows]
        self._waiting = {}
        if self.unflushed.dialect.name != "postgresql" or len(waiting) < 2:
            for insert, rows in waiting:
                insert.run(self.unflushed, rows)
            return
        run_texts(self.unflushed, [insert.prepare(rows) for insert, rows in waiting])
