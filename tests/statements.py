"""Count what a flow sends to the database, at the driver: each statement, each commit, and what it waits for.

    with counting_statements(store.engine) as sent:
        flow(connection.id)
    assert len(sent.statements) <= 9, sent

Only what the calling thread sends is counted. A ping is a statement, and so is each row of an `executemany`.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, event

from models.store.pipeline import Command, Pipeline

_transaction_words = ("BEGIN", "COMMIT", "ROLLBACK", "PRAGMA", "SET LOCAL")


@dataclass
class Sent:
    """What was sent.

    statements: their texts, without what begins and ends a transaction.
    commits: transactions that were committed, those that only read included.
    durable: commits of what was written that waited for the disk.
    rollbacks: transactions that were rolled back, as each that only reads is.
    alone: statements outside of a transaction, each of which commits by itself.
    trips: round trips to PostgreSQL.
    """

    statements: list[str] = field(default_factory=list)
    commits: int = 0
    durable: int = 0
    rollbacks: int = 0
    alone: int = 0
    trips: int = 0
    _is_begun: bool = False
    _writes: bool = False
    _waits: bool = True

    def note(self, text: str) -> None:
        """Note a text that goes to the database."""
        stripped = text.strip()
        if stripped.startswith("BEGIN"):
            self._is_begun, self._writes, self._waits = True, False, "synchronous_commit = off" not in stripped
        elif stripped.startswith("COMMIT"):
            self.end(committed=True)
        elif stripped.startswith("ROLLBACK"):
            self.end(committed=False)
        elif not stripped.startswith(_transaction_words):
            self.statements.append(stripped)
            writes = not stripped.startswith(("SELECT", ";"))
            self._writes = self._writes or writes
            self.alone += not self._is_begun
            self.durable += writes and not self._is_begun

    def end(self, committed: bool) -> None:
        """Note the end of a transaction."""
        self._is_begun = False
        self.commits += committed
        self.rollbacks += not committed
        self.durable += committed and self._writes and self._waits

    def __str__(self) -> str:
        """Return it as the message of an assertion shows it."""
        lines = (" ".join(text.split())[:150] for text in self.statements)
        ends = f"{self.commits} commits, {self.durable} durable, {self.rollbacks} rollbacks"
        return "\n".join([f"{len(self.statements)} statements, {ends}", *lines])


@contextmanager
def counting_statements(engine: Engine) -> Iterator[Sent]:
    """Count what this thread sends through the engine, on PostgreSQL through any."""
    sent, own = Sent(), threading.get_ident()

    def note(*texts: str) -> None:
        if threading.get_ident() == own and texts:
            sent.trips += 1
            for text in texts:
                sent.note(text)

    watch = _watch_psycopg if engine.dialect.name == "postgresql" else _watch_sqlite
    with watch(engine, note):
        yield sent


@contextmanager
def _watch_psycopg(engine: Engine, note: Callable[..., None]) -> Iterator[None]:
    def watched(kind: Any, name: str, texts: Callable[..., list[str]]) -> Callable[..., Any]:
        original = getattr(kind, name)

        def call(self: Any, *arguments: Any, **options: Any) -> Any:
            note(*texts(self, *arguments))
            return original(self, *arguments, **options)

        return call

    def in_transaction(text: str, connection: Any) -> list[str]:
        idle = connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        return [] if idle else [text]

    with pytest.MonkeyPatch.context() as patch:
        cursor, connection = psycopg.Cursor, psycopg.Connection
        patch.setattr(cursor, "execute", watched(cursor, "execute", lambda _, text, *more: [_as_text(text)]))
        many = watched(cursor, "executemany", lambda _, text, rows, *more: [_as_text(text)] * len(rows))
        patch.setattr(cursor, "executemany", many)
        patch.setattr(Pipeline, "_exchange", watched(Pipeline, "_exchange", lambda _, commands: _texts_of(commands)))
        patch.setattr(connection, "commit", watched(connection, "commit", partial(in_transaction, "COMMIT")))
        patch.setattr(connection, "rollback", watched(connection, "rollback", partial(in_transaction, "ROLLBACK")))
        yield


@contextmanager
def _watch_sqlite(engine: Engine, note: Callable[[str], None]) -> Iterator[None]:
    def begin(connection: Any, *more: Any) -> None:
        connection.set_trace_callback(note)

    def end(connection: Any, *more: Any) -> None:
        if connection is not None:
            connection.set_trace_callback(None)

    event.listen(engine, "checkout", begin)
    event.listen(engine, "checkin", end)
    try:
        yield
    finally:
        event.remove(engine, "checkout", begin)
        event.remove(engine, "checkin", end)


def _texts_of(commands: Sequence[Command]) -> list[str]:
    """Return what goes in one round trip; what begins a transaction is one text."""
    begin = [each.text for each in commands if each.text.startswith(("BEGIN", "SET LOCAL"))]
    others = [each.text for each in commands if each.text not in begin]
    return ["; ".join(begin), *others] if begin else others


def _as_text(query: Any) -> str:
    return query.decode() if isinstance(query, bytes) else str(query)
