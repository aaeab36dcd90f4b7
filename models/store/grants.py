"""What each process may do in PostgreSQL: a role of its own, which owns nothing, for the tables and columns it uses."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

import psycopg
from psycopg import sql as compose
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import text

from models.crypto.secrets import Secret
from models.store.tables import SealedText, metadata

Process = Literal["web", "worker", "scheduler", "gateway", "cli", "application"]
processes: Final[tuple[Process, ...]] = get_args(Process)
role_name = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def _open_columns(table: str) -> str:
    """Name the columns of a table that hold no sealed text."""
    return ", ".join(
        column.name for column in metadata.tables[table].columns if not isinstance(column.type, SealedText)
    )


def _columns_without(table: str, column: str) -> str:
    return ", ".join(each.name for each in metadata.tables[table].columns if each.name != column)


_of_deliveries = (
    "claimed_until, lease_owner, lease_until, paused_at, is_gone, failures, failing_since, retry_at, delivered_at, "
    "error"
)
"""What a worker writes of a webhook's endpoint: never its URL or secret."""

GRANTS: Final[Mapping[Process, Mapping[str, Sequence[str]]]] = {
    "web": {
        "alembic_version": ("SELECT",),
        "audit": ("INSERT",),
        "authorization": ("SELECT", "INSERT", "UPDATE"),
        "call": ("SELECT (due_at)",),
        "client": (f"SELECT ({_open_columns('client')})",),
        "connection": ("SELECT", "UPDATE (sync_requested, sync_due_at, sync_claimed_until)"),
        "counter": ("SELECT", "INSERT", "UPDATE"),
        "decision": ("INSERT", "SELECT (position)"),
        "event": ("INSERT", "SELECT (position, published_at, waits_since)"),
        "process": ("SELECT", "INSERT", "UPDATE"),
        "refusal": ("SELECT",),
        "sync_run": ("SELECT",),
        "webhook": ("SELECT (id, name)",),
        "webhook_delivery": ("SELECT (webhook_id, waits_since, due_at, dead_at)",),
    },
    "worker": {
        "alembic_version": ("SELECT",),
        "audit": ("INSERT",),
        "authorization": ("SELECT", "UPDATE"),
        "call": ("SELECT", "UPDATE"),
        "client": ("SELECT", "INSERT", "UPDATE"),
        "connection": ("SELECT", "INSERT", "UPDATE"),
        "counter": ("SELECT", "INSERT", "UPDATE"),
        "credential": ("SELECT", "INSERT", "UPDATE"),
        "decision": ("SELECT", "INSERT"),
        "event": ("SELECT", "INSERT", "UPDATE (published_at)"),
        "hold": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "lease": ("SELECT", "INSERT", "UPDATE"),
        "pace": ("SELECT", "INSERT", "UPDATE"),
        "process": ("SELECT", "INSERT", "UPDATE"),
        "record": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "refreshable": ("SELECT",),
        "refusal": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "request_batch": ("SELECT", "INSERT", "UPDATE (connection_id)"),
        "resource": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "revocation": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "sync_page": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "sync_run": ("SELECT", "INSERT", "UPDATE"),
        "webhook": ("SELECT", f"UPDATE ({_of_deliveries})"),
        "webhook_delivery": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    },
    "scheduler": {
        "audit": ("SELECT", "INSERT", "UPDATE (day, number, previous, hash)", "DELETE"),
        "audit_day": ("SELECT", "INSERT"),
        "authorization": ("SELECT", "UPDATE", "DELETE"),  # it carries out the application's `confirm`
        "call": (
            "SELECT (id, connection_id, created_at, bodies_until, due_at, claimed_until)",
            "UPDATE (request, answer, bodies_until, claimed_until)",
            "DELETE",
        ),
        "client": (
            "SELECT (provider, client_id, cause, paused_at, next_probe_at, probe_claimed_until)",
            "UPDATE (probe_claimed_until)",
        ),
        "connection": ("SELECT", "UPDATE"),
        "credential": ("SELECT (connection_id, presented_generation, issued_at)",),
        "counter": ("SELECT", "INSERT", "UPDATE"),
        "decision": (
            "SELECT (position, subject, at, evidence)",
            "INSERT",
            "DELETE",
        ),  # evidence: to know an entry again
        "event": ("SELECT (position, created_at, published_at, waits_since)", "INSERT", "DELETE"),
        "hold": ("SELECT", "UPDATE (trials, next_trial_at)"),
        "pace": ("SELECT",),
        "process": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "refreshable": ("SELECT",),
        "refusal": ("SELECT", "UPDATE (due_at)", "DELETE"),  # UPDATE to lock a row, which is all that it does
        "request_batch": ("SELECT (position, at)", "DELETE"),
        "revocation": ("SELECT (id, due_at, claimed_until)", "UPDATE (claimed_until)"),
        "sync_run": ("SELECT", "DELETE"),
        "webhook": ("SELECT (id, paused_at, retry_at, claimed_until, lease_until)", "UPDATE (claimed_until)"),
        "webhook_delivery": ("SELECT (webhook_id, key, due_at, dead_at)", "DELETE"),
    },
    "gateway": {
        "alembic_version": ("SELECT",),
        "audit": ("INSERT",),
        "call": ("SELECT", "INSERT"),
        "client": ("SELECT (provider, client_id, cause, paused_at)",),
        "connection": (
            "SELECT",
            "UPDATE (refresh_due_at, refresh_claimed_until, refresh_asked_at, sync_requested, sync_due_at, "
            "sync_claimed_until)",
        ),
        "credential": (
            f"SELECT ({_columns_without('credential', 'refresh_token')})",
            "UPDATE (refused_generation, refused_at)",
        ),
        "decision": ("INSERT",),
        "process": ("SELECT", "INSERT", "UPDATE"),
        "refreshable": ("SELECT",),
        "request_batch": ("INSERT",),
        "sync_run": ("SELECT",),
    },
    "cli": {
        "alembic_version": ("SELECT",),
        "audit": ("SELECT", "INSERT"),
        "audit_day": ("SELECT",),
        "authorization": ("SELECT", "UPDATE"),
        "call": ("SELECT", "UPDATE (request, answer)"),
        "client": ("SELECT", "INSERT", "UPDATE"),
        "connection": ("SELECT", "INSERT", "UPDATE"),
        "counter": ("SELECT", "INSERT", "UPDATE"),
        "credential": ("SELECT", "INSERT", "UPDATE"),
        "decision": ("SELECT", "INSERT"),
        "event": ("SELECT", "INSERT", "UPDATE (published_at, waits_since)"),
        "hold": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "pace": ("SELECT", "INSERT", "UPDATE"),
        "process": ("SELECT", "INSERT", "UPDATE"),  # the operator's page has this role, and reports itself
        "record": ("SELECT",),
        "refreshable": ("SELECT",),
        "refusal": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "request_batch": ("SELECT", "INSERT"),
        "resource": ("SELECT",),
        "revocation": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "sync_page": ("SELECT", "DELETE"),
        "sync_run": ("SELECT", "UPDATE"),
        "webhook": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "webhook_delivery": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    },
    "application": {
        "connection": ("SELECT",),
        "event": ("SELECT",),
        "record": ("SELECT",),
        "request_log": ("SELECT",),
        "sync_run": ("SELECT",),
    },
}
"""Of each process's role: the privileges on each table, or on some of its columns.

The roles of the application and of the command line read the profiles' views as well. Rows that go by ON DELETE CASCADE
need no privilege.
"""

FUNCTIONS: Final[Mapping[Process, Sequence[str]]] = {
    "scheduler": ("breezesync_make_day", "breezesync_drop_day"),
    "cli": ("breezesync_stray_rows",),
}
"""The functions that only a process named here may call: they run with the owner's rights (`models/store/days.py`)."""


@dataclass(frozen=True, slots=True)
class Role:
    """The PostgreSQL role of one process; without a password it has one already, or logs in another way."""

    process: Process
    name: str
    password: Secret | None = None


def parse_roles(lines: str) -> tuple[Role, ...]:
    """Read `PROCESS=ROLE` or `PROCESS=ROLE:PASSWORD`, one a line. Raises `ValueError` without any password in it."""
    roles = []
    for number, line in enumerate(lines.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        process, equals, rest = line.strip().partition("=")
        name, _, password = rest.partition(":")
        if process not in processes or not equals:
            raise ValueError(f"line {number}: expected PROCESS=ROLE:PASSWORD, PROCESS one of {', '.join(processes)}")
        if not role_name.fullmatch(name):
            raise ValueError(f"line {number}: expected a role of small letters, digits and underscores")
        roles.append(Role(process, name, Secret(password) if password else None))
    if not roles:
        raise ValueError("expected a line such as web=breezesync_web:PASSWORD")
    if len({role.name for role in roles}) < len(roles):
        raise ValueError("expected a different role for each process")
    return tuple(roles)


def grant(sql: SqlConnection, roles: Iterable[Role], views: Collection[str]) -> None:
    """Make the roles that are missing, and leave each exactly the privileges of its process.

    `views` are the profiles' views. Everything is part of the caller's transaction. No statement has a password in
    clear text: the server may log statements.
    """
    schema = sql.execute(text("SELECT current_schema()")).scalar_one()
    database = sql.execute(text("SELECT current_database()")).scalar_one()
    _run(sql, "REVOKE CREATE ON SCHEMA {} FROM PUBLIC", schema)
    _run(sql, "REVOKE CREATE, TEMPORARY ON DATABASE {} FROM PUBLIC", database)
    for role in roles:
        _prepare(sql, role)
        _run(sql, "GRANT CONNECT ON DATABASE {} TO {}", database, role.name)
        _run(sql, "GRANT USAGE ON SCHEMA {} TO {}", schema, role.name)
        for kind in ("TABLES", "SEQUENCES"):
            _run(sql, f"REVOKE ALL ON ALL {kind} IN SCHEMA {{}} FROM {{}}", schema, role.name)
        for name in sorted({each for names in FUNCTIONS.values() for each in names}):
            may_call = name in FUNCTIONS.get(role.process, ())
            change = "GRANT EXECUTE ON FUNCTION {} TO {}" if may_call else "REVOKE ALL ON FUNCTION {} FROM {}"
            _run(sql, change, name, role.name)
        for statement, relation in _privileges(role.process, views):
            _run(sql, f"GRANT {statement} ON {{}} TO {{}}", relation, role.name)


def _privileges(process: Process, views: Collection[str]) -> Iterable[tuple[str, str]]:
    for table, privileges in GRANTS[process].items():
        yield from ((privilege, table) for privilege in privileges)
        numbered = metadata.tables[table].autoincrement_column if table in metadata.tables else None
        if "INSERT" in privileges and numbered is not None:
            yield "USAGE", f"{table}_{numbered.name}_seq"
    if process in ("application", "cli"):
        yield from (("SELECT", view) for view in views)


def _prepare(sql: SqlConnection, role: Role) -> None:
    """Make the role if it is missing, and set its password."""
    exists = sql.execute(text("SELECT FROM pg_roles WHERE rolname = :name"), {"name": role.name}).first() is not None
    if not exists:
        _run(sql, "CREATE ROLE {} LOGIN NOINHERIT NOCREATEDB NOCREATEROLE", role.name)
    if role.password is not None:
        server = _driver(sql).pgconn
        verifier = server.encrypt_password(role.password.reveal().encode(), role.name.encode(), b"scram-sha-256")
        _run(sql, "ALTER ROLE {} PASSWORD {}", role.name, compose.Literal(verifier.decode()))


def _run(sql: SqlConnection, statement: str, *parts: str | compose.Literal) -> None:
    """Run a statement with these names, quoted, and literals; nothing in it is a parameter, which DDL can't have."""
    composed = compose.SQL(statement).format(*(compose.Identifier(p) if isinstance(p, str) else p for p in parts))
    sql.exec_driver_sql(composed.as_string(_driver(sql)), execution_options={"no_parameters": True})


def _driver(sql: SqlConnection) -> psycopg.Connection[object]:
    return cast("psycopg.Connection[object]", sql.connection.driver_connection)
