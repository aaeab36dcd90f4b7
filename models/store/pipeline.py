"""Statements on a connection to PostgreSQL that share a round trip: BEGIN goes with the first, COMMIT with the last.

A round trip costs a worker more than its statement does: the thread waits, and gets its turn again behind the others.
psycopg's cursor takes one for BEGIN, for each statement and for COMMIT, and some sixty microseconds around each. So the
statements that are built once go to libpq's pipeline mode, through psycopg's own wrapper of libpq, and psycopg adapts
their values and their rows as its cursor does.
"""

import select
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Any, NamedTuple

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import FeatureNotSupported, InFailedSqlTransaction, InvalidSqlStatementName, error_from_result
from psycopg.pq import ConnStatus, ExecStatus, PipelineStatus, TransactionStatus
from psycopg.pq.abc import PGresult

most_prepared = 200
"""How many statements a connection prepares; there are fewer that run often."""
wake_ms = 100
"""How often a wait looks up: Python raises nothing in a thread while it waits for a socket."""
cancel_seconds = 5
"""How long an interrupted statement is waited for to be cancelled, if the server does not answer."""
no_longer_prepared = (FeatureNotSupported, InvalidSqlStatementName)
"""What a prepared statement fails with if a migration has changed what it returns, or someone has dropped it."""
Key = tuple[str, tuple[int, ...]]
"""What is prepared: a text, with the types of its values."""


class Answer(NamedTuple):
    """What a statement returned, and how many rows it changed or returned."""

    rows: list[tuple[Any, ...]]
    rowcount: int


class Pending:
    """The answer of a statement that may not have run yet: it goes with the next one of its transaction."""

    def __init__(self) -> None:
        self._answer: Answer | None = None

    def arrive(self, answer: Answer) -> None:
        """Take the answer."""
        self._answer = answer

    @property
    def has_arrived(self) -> bool:
        """Whether the statement has run."""
        return self._answer is not None

    @property
    def answer(self) -> Answer:
        """The answer, once it has arrived."""
        if self._answer is None:
            raise AssertionError("the statement has not run")
        return self._answer


class Command(NamedTuple):
    """A statement with its values as libpq takes them."""

    text: str
    values: Sequence[Any] = ()
    types: tuple[int, ...] = ()
    formats: Sequence[Any] = ()
    pending: Pending | None = None


class Pipeline:
    """The statements of one connection, in the order in which they were given.

    prepares: whether the server prepares what runs for a second time; psycopg itself must prepare nothing then, because
    it drops what is prepared whenever a table is dropped.
    """

    def __init__(self, driver: "psycopg.Connection[Any]", prepares: bool) -> None:
        self.driver = driver
        self.prepares = prepares
        # Of the connection itself it would learn the time zone, once, which behind a pooler may be another one's.
        self._adapt = Transformer(driver.adapters)
        self._numbers = count()
        self._prepared: dict[Key, bytes] = {}
        self._seen: set[Key] = set()
        self._ahead: list[Command] = []
        self._begun: list[Command] = []
        self._has_ended = False
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(driver.pgconn.socket, select.POLLIN)
        self._writable.register(driver.pgconn.socket, select.POLLIN | select.POLLOUT)

    def begin(self, *texts: str) -> None:
        """Begin a transaction with these, which go with its first statement.

        Raise if the server has closed the connection while it lay idle: then there is something to read.
        """
        self._ahead = []
        # Once for what the server said last, and once for the end of the connection behind it. Looking whether there is
        # anything to read would let another thread run first.
        self.driver.pgconn.consume_input()
        self.driver.pgconn.consume_input()
        self._begun = [Command(text) for text in texts]
        self.begin_again()

    def begin_again(self) -> None:
        """Begin another transaction like the last one, which has ended."""
        self._ahead, self._has_ended = [*self._begun], False

    def put(self, text: str, parameters: Sequence[Any], pending: Pending) -> None:
        """Run a statement with the next one, or with COMMIT."""
        self._require_transaction()
        self._ahead.append(self._command(text, parameters, pending))

    def run(self, text: str, parameters: Sequence[Any], ends: bool = False) -> Answer:
        """Run a statement, and commit with it if it `ends` the transaction."""
        pending = Pending()
        self.put(text, parameters, pending)
        self.send(ends)
        return pending.answer

    def send(self, ends: bool = False) -> None:
        """Send what waits for a statement of its transaction, and commit with it if that `ends` here."""
        self._require_transaction()
        if not self._ahead:
            return
        ahead, self._ahead = self._ahead, []
        if ends:
            ahead.append(Command("COMMIT"))
        for command, result in zip(ahead, self._exchange(ahead), strict=True):
            if command.pending is not None:
                self._adapt.set_pgresult(result)
                rows = self._adapt.load_rows(0, result.ntuples, tuple) if result.ntuples else []
                command.pending.arrive(Answer(rows, result.command_tuples or 0))
        # It would keep the last result, however large that is, until the next one.
        self._adapt.set_pgresult(None)
        self._has_ended = ends

    def end(self) -> None:
        """Commit with what waits, if there is any but what begins the transaction.

        Raise if a statement has failed, whoever let that pass: PostgreSQL takes such a transaction back at COMMIT, and
        does not call it an error.
        """
        if self.driver.pgconn.transaction_status == TransactionStatus.INERROR:
            raise InFailedSqlTransaction("a statement of the transaction failed")
        if any(command.pending is not None for command in self._ahead):
            self.send(ends=True)

    def leave(self) -> None:
        """Drop what waits: the block of the transaction is over."""
        self._ahead, self._has_ended = [], False

    def _require_transaction(self) -> None:
        """What comes after COMMIT in the block of a transaction would run by itself, without the locks of that."""
        if self._has_ended:
            raise AssertionError("the transaction was committed before its last statement")

    def _command(self, text: str, parameters: Sequence[Any], pending: Pending) -> Command:
        values = self._adapt.dump_sequence(parameters, [PyFormat.AUTO] * len(parameters))
        return Command(text, values, self._adapt.types or (), self._adapt.formats or (), pending)

    def _exchange(self, commands: Sequence[Command]) -> Sequence[PGresult]:
        """Send the commands and return the result of each.

        If one of them fails, those after it have not run; its text is the error's note.
        """
        libpq = self.driver.pgconn
        try:
            libpq.enter_pipeline_mode()
            names = [self._send(command) for command in commands]
            libpq.pipeline_sync()
            results = self._receive()
        except BaseException:
            self._abandon()
            raise
        answers, arrived = [], iter(results)
        for command, name in zip(commands, names, strict=True):
            try:
                if name is not None:
                    _check(next(arrived))
                    self._prepared[command.text, command.types] = name
                answers.append(_check(next(arrived)))
            except psycopg.Error as error:
                error.add_note(command.text)
                if isinstance(error, no_longer_prepared):
                    self._prepared.clear()
                raise
        return answers

    def _abandon(self) -> None:
        """Close the connection: the next statement would take the results that are left behind for its own.

        What was sent is cancelled, or it would go on, and the COMMIT behind it as well.
        """
        if self.driver.pgconn.pipeline_status != PipelineStatus.OFF:
            with suppress(psycopg.Error):
                self.driver.cancel_safe(timeout=cancel_seconds)
        self.driver.close()

    def _send(self, command: Command) -> bytes | None:
        """Send a command; return the name under which it is prepared with it, if it is its second time."""
        libpq, name, new = self.driver.pgconn, self._prepared.get((command.text, command.types)), None
        if name is None and self._is_to_prepare(command):
            name = new = b"breezesync_%d" % next(self._numbers)
            libpq.send_prepare(name, command.text.encode(), command.types)
        if name is None:
            libpq.send_query_params(command.text.encode(), command.values, command.types, command.formats)
        else:
            libpq.send_query_prepared(name, command.values, command.formats)
        return new

    def _is_to_prepare(self, command: Command) -> bool:
        """Whether the command has been here before, not long ago; remember it."""
        if not self.prepares or len(self._prepared) >= most_prepared:
            return False
        key = (command.text, command.types)
        if key in self._seen:
            return True
        if len(self._seen) >= most_prepared:
            self._seen.clear()
        self._seen.add(key)
        return False

    def _receive(self) -> Sequence[PGresult]:
        """Return the results up to the end of the pipeline. What is sent goes out while they come in.

        A server that ends the session says why before it closes the connection: then its error is the last result.
        """
        libpq = self.driver.pgconn
        results: list[PGresult] = []
        try:
            while libpq.flush():
                self._wait(self._writable)
                libpq.consume_input()
            while (result := self._next()) is None or result.status != ExecStatus.PIPELINE_SYNC:
                if result is not None:
                    results.append(result)
            libpq.exit_pipeline_mode()
        except psycopg.OperationalError:
            is_explained = any(result.status == ExecStatus.FATAL_ERROR for result in results)
            if libpq.status == ConnStatus.OK or not is_explained:
                raise
        return results

    def _next(self) -> PGresult | None:
        """Return the next result; None after that of each statement."""
        libpq = self.driver.pgconn
        while libpq.is_busy():
            self._wait(self._readable)
            libpq.consume_input()
        result = libpq.get_result()
        if result is None and libpq.status == ConnStatus.BAD:
            raise psycopg.OperationalError("the connection to the database was lost")
        return result

    def _wait(self, ready: select.poll) -> None:
        """Wait for the server. An exception that another thread raises in this one, to stop it, ends the wait."""
        while not ready.poll(wake_ms):
            pass


def _check(result: PGresult) -> PGresult:
    """Return the result of a statement that did what it should; raise psycopg's error for another one."""
    if result.status in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
        return result
    if result.status == ExecStatus.PIPELINE_ABORTED:
        raise psycopg.OperationalError("a statement before this one failed")
    raise error_from_result(result)
