"""What an operator reads about a database, by the errors of the two drivers."""

import sqlite3

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import OperationalError

from models.store.trouble import disk_full, explain, trouble_of, unreachable

refused = "connection failed: connection to server at 127.0.0.1, port 5432 failed: FATAL: "

sentences = {
    "an unknown role": (f'{refused} role "ada" does not exist', "has no role ada"),
    "an unknown user of the pooler": (f"{refused} no such user: ada", "has no role ada"),
    "a wrong password": (f'{refused} password authentication failed for user "ada"', "refuses the password of ada"),
    "an unknown database": (f'{refused} database "d" does not exist', "d does not exist"),
    "an unknown database of the pooler": (f"{refused} no such database: d", "d does not exist"),
    "no entry in pg_hba.conf": (
        f'{refused} no pg_hba.conf entry for host "h"',
        "does not let this user in from here",
    ),
    "too many": (f"{refused} sorry, too many clients already", "has no free connection"),
    "options": (
        f"{refused} unsupported startup parameter: options",
        "is behind a pooler that takes no options",
    ),
    "starting": (f"{refused} the database system is starting up", "is starting or stopping"),
    "another language": (
        f"{refused} Rolle »ada« existiert nicht",
        "refuses the connection (Rolle »ada« existiert nicht)",
    ),
    "TLS that is not trusted": (
        "connection failed: SSL error: certificate verify failed",
        "and this machine do not agree on TLS",
    ),
    "a connection with TLS that was lost": (
        "consuming input failed: SSL connection has been closed unexpectedly",
        unreachable.said,
    ),
    "no one listens": ("connection refused", unreachable.said),
}


def of(cause: Exception) -> OperationalError:
    return OperationalError("SELECT 1", {}, cause)


@pytest.mark.parametrize("case", sentences)
def test_a_refused_connection_is_told_by_what_the_server_says(case: str) -> None:
    sentence, said = sentences[case]
    trouble = explain(of(psycopg.OperationalError(sentence)))
    assert trouble.said == said
    assert trouble.remedy.endswith(".")


def test_an_error_with_a_class_is_told_by_it() -> None:
    assert explain(of(errors.DiskFull())) == disk_full
    assert explain(of(errors.LockNotAvailable())).said == "is locked by another session"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (sqlite3.SQLITE_FULL, disk_full.said),
        (sqlite3.SQLITE_BUSY, "is locked by another process"),
        (sqlite3.SQLITE_IOERR_WRITE, "can't be read or written"),
    ],
)
def test_sqlite_is_told_by_its_code(code: int, said: str) -> None:
    error = sqlite3.OperationalError("whatever it says")
    error.sqlite_errorcode = code
    assert explain(of(error)).said == said


def test_the_driver_s_error_is_found_behind_ours() -> None:
    ours = RuntimeError("ours")
    ours.__cause__ = of(errors.DiskFull())
    assert trouble_of(ours) == disk_full
    assert trouble_of(RuntimeError("another")) == unreachable
