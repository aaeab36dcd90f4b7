"""What is wrong with a database, in a sentence and with its remedy, by the errors of the two drivers."""

import re
import sqlite3
from dataclasses import dataclass
from typing import Final

from psycopg import errors
from sqlalchemy import ExceptionContext
from sqlalchemy.exc import DBAPIError


@dataclass(frozen=True, slots=True)
class Trouble:
    """`said` continues "The database"; `remedy` is a sentence."""

    said: str
    remedy: str


unreachable: Final = Trouble("does not answer", "Start it, or set DATABASE_URL.")
disk_full: Final = Trouble("has no disk space left", "Free some: nothing is lost, and work goes on by itself.")

_by_class: Final[dict[type[Exception], Trouble]] = {
    errors.LockNotAvailable: Trouble(
        "is locked by another session", "Find it with SELECT * FROM pg_locks WHERE NOT granted, and end it."
    ),
    errors.DiskFull: disk_full,
    errors.InsufficientPrivilege: Trouble(
        "refuses what this role has no privilege for",
        "Run breezesync migrate --grant-roles FILE as the owner of the schema, who may create roles: it gives each "
        "process's role what it needs.",
    ),
    errors.ReadOnlySqlTransaction: Trouble("is read-only", "Set DATABASE_URL to the primary."),
    errors.UndefinedTable: Trouble("lacks tables of the schema", "Run breezesync migrate."),
    errors.InvalidSchemaName: Trouble(
        "has no schema in its search_path", "Create the schema, or correct search_path in DATABASE_URL or of the role."
    ),
    errors.UntranslatableCharacter: Trouble(
        "can't store every character", "Create a database with ENCODING 'UTF8', and set DATABASE_URL to it."
    ),
}

repairable: Final = (
    errors.DataCorrupted,
    errors.IndexCorrupted,
    errors.InsufficientPrivilege,
    errors.InvalidSchemaName,
    errors.UndefinedColumn,
    errors.UndefinedTable,
)
"""What no statement can help: an operator mends it, and then it runs."""

# libpq gives no SQLSTATE for a connection that was refused: only the server's sentence says why. One that is not
# listed, or in another language, is shown as the server said it.
_by_sentence: Final[tuple[tuple[str, str, str], ...]] = (
    (
        r'role "([^"]*)" does not exist|no such user: (\S+)',
        "has no role {}",
        "Create the role, or correct the user in DATABASE_URL.",
    ),
    (
        r'password authentication failed for user "([^"]*)"',
        "refuses the password of {}",
        "Correct the password in DATABASE_URL.",
    ),
    (r"SASL authentication failed|auth failed", "refuses the password", "Correct the password in DATABASE_URL."),
    (r"no password supplied", "asks for a password", "Put it into DATABASE_URL."),
    (
        r'database "([^"]*)" does not exist|no such database: (\S+)',
        "{} does not exist",
        "Create it with ENCODING 'UTF8' (createdb -E UTF8 -T template0), or correct its name in DATABASE_URL.",
    ),
    (r"no pg_hba\.conf entry", "does not let this user in from here", "Add a line for it to pg_hba.conf."),
    (r'permission denied for database "([^"]*)"', "{} may not be used by this role", "GRANT CONNECT to the role."),
    (r'role "([^"]*)" is not permitted to log in', "does not let role {} log in", "ALTER ROLE … LOGIN."),
    (
        r"too many (?:clients|connections)|connection slots are reserved|no more connections allowed",
        "has no free connection",
        "Raise max_connections, or put PgBouncer in front of it.",
    ),
    (
        r"unsupported startup parameter(?: in options)?: (\S+)",
        "is behind a pooler that takes no {}",
        "Take options out of DATABASE_URL and set them on the role: ALTER ROLE … SET search_path = ….",
    ),
    (r"is starting up|is shutting down|in recovery mode", "is starting or stopping", "Try again in a moment."),
    (r"resolve host|translate host name", "has a host name that is not known", "Correct the host in DATABASE_URL."),
    (r"SSL (?:connection has been closed|SYSCALL error)", unreachable.said, unreachable.remedy),
    (r"SSL|certificate", "and this machine do not agree on TLS", "Check sslmode and the certificates in DATABASE_URL."),
)

_by_sqlite_code: Final[dict[int, Trouble]] = {
    sqlite3.SQLITE_FULL: disk_full,
    sqlite3.SQLITE_IOERR: Trouble("can't be read or written", "Check the disk and its free space."),
    sqlite3.SQLITE_BUSY: Trouble("is locked by another process", "End the process that writes to it for so long."),
    sqlite3.SQLITE_CANTOPEN: Trouble("can't be opened", "Check the directory of DATABASE_URL and its permissions."),
    sqlite3.SQLITE_READONLY: Trouble("can't be written", "Check the permissions of the file and of its directory."),
    sqlite3.SQLITE_NOTADB: Trouble("is not a SQLite database", "Set DATABASE_URL to another file."),
    sqlite3.SQLITE_CORRUPT: Trouble("is damaged", "Restore it from a backup."),
}


def hide_values(context: ExceptionContext) -> None:
    """Take the values of rows out of a refusal's text, before it is raised: a listener for `handle_error`.

    PostgreSQL repeats the row that it refuses in DETAIL, and the value in its sentence. A log and a dead letter keep
    the text of every error that led to another; what the error is about stays: its class, table, column, constraint.
    """
    cause = context.original_exception
    text = hide_values_of(cause)
    if text is not None and context.sqlalchemy_exception is not None:
        context.sqlalchemy_exception.args = (f"({type(cause).__module__}.{type(cause).__qualname__}) {text}",)


def hide_values_of(cause: BaseException) -> str | None:
    """Take the values out of a refusal of PostgreSQL and return what it says now; None if it is no refusal."""
    if not isinstance(cause, errors.Error) or cause.sqlstate is None:
        return None
    diagnosis = cause.diag
    places = (diagnosis.table_name, diagnosis.column_name, diagnosis.constraint_name)
    sentence = diagnosis.message_primary if cause.sqlstate[:2] in _sentences_without_values else "a value was refused"
    text = " ".join(filter(None, (cause.sqlstate, sentence, *places)))
    cause.args = (text,)
    return text


_sentences_without_values: Final = frozenset(
    {"08", "0A", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58"}
)
"""Classes of SQLSTATE whose sentences name tables, roles and limits; others quote what was to be stored."""


def explain(error: DBAPIError) -> Trouble:
    """Return what is wrong; that it does not answer, if nothing better is known."""
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", 0)
        return _by_sqlite_code.get(code & 0xFF, Trouble(f"refuses ({cause})", "Check DATABASE_URL."))
    for kind, trouble in _by_class.items():
        if isinstance(cause, kind):
            return trouble
    return _explain_refusal(str(cause))


def trouble_of(error: BaseException) -> Trouble:
    """Return what is wrong by the driver's error that led to this one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DBAPIError):
            return explain(cause)
        cause = cause.__cause__
    return unreachable


def _explain_refusal(sentence: str) -> Trouble:
    for pattern, said, remedy in _by_sentence:
        found = re.search(pattern, sentence)
        if found is not None:
            name = next((group for group in found.groups() if group), "")
            return Trouble(said.format(name), remedy)
    fatal = re.search(r"FATAL: +(.{1,200})", sentence)
    if fatal is not None:
        return Trouble(f"refuses the connection ({fatal.group(1)})", "Check DATABASE_URL.")
    return unreachable
