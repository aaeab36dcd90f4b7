"""Rows by the million, made by the database itself: connections, and the history that they leave behind."""

from collections.abc import Mapping
from datetime import UTC, datetime

import psycopg
from sqlalchemy import create_engine, insert

from models.oauth.connection import Connection, Status
from models.store.connections import table as connection_table
from models.store.rows import from_connection

FIRST = "first"
"""The connection that the others are copies of."""
INDEXES = """
    SELECT format('DROP INDEX %%I', i.relname), replace(pg_get_indexdef(i.oid), ' ON ONLY ', ' ON ')
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
    WHERE x.indrelid = %s::regclass AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.oid)
    UNION ALL
    SELECT format('ALTER TABLE %%s DROP CONSTRAINT %%I', conrelid::regclass, conname),
      format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', conrelid::regclass, conname, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'u'
"""
HISTORY = {
    "sync_run": """
        INSERT INTO sync_run (id, connection_id, status, depth, counts, started_at, finished_at, place, page,
          pass_number, failures)
        SELECT md5('run' || g), md5((g %% %(connections)s + 1)::text), 'completed', 'pulse', '{}', at, at, 0, 1, 0, 0
        FROM (SELECT g, now() - interval '29 days' * g / %(rows)s AS at FROM generate_series(1, %(rows)s) g) s
    """,
    "request_batch": """
        INSERT INTO request_batch (at, connection_id, calls)
        SELECT now() - interval '29 days' * g / %(rows)s, md5((g %% %(connections)s + 1)::text),
          '[[0,"GET","/me",200,20]]'
        FROM generate_series(1, %(rows)s) g
    """,
    "decision": """
        INSERT INTO decision (subject, at, verb, evidence)
        SELECT md5((g %% %(connections)s + 1)::text), now() - interval '60 days' * (1 - g / %(rows)s::float),
          'sync.completed', '{}'
        FROM generate_series(1, %(rows)s) g
    """,
    "event": """
        INSERT INTO event (id, stream, type, provider, user_id, connection_id, subject, sequence, document, created_at,
          waits_since, published_at)
        SELECT md5('event' || g), 'records', 'record.updated', 'breezedoc', 'user', id, id, g, '{}', at, at, at
        FROM (SELECT g, md5((g %% %(connections)s + 1)::text) AS id, now() - interval '29 days' * g / %(rows)s AS at
          FROM generate_series(1, %(rows)s) g) s
    """,
}
"""A month of each; the decisions are of two, for those that `explain` needs stay for longer."""


def add_connections(database_url: str, rows: int, more: Mapping[str, str] | None = None) -> None:
    """Write connections that are due over the next hours and weeks, in the order of their random ids.

    `more` are expressions for other columns, of `g.id` and `g.number`.
    """
    first = Connection(
        id=FIRST,
        user_id="user",
        provider="breezedoc",
        client_id="bench",
        account_id=FIRST,
        status=Status.active,
        created_at=datetime.now(UTC),
        generation=1,
    )
    engine = create_engine(database_url)
    with engine.begin() as sql:
        sql.execute(insert(connection_table), [from_connection(first)])
    engine.dispose()
    own = {
        "id": "g.id",
        "user_id": "'user-' || g.number",
        "account_id": "g.number::text",
        "sync_due_at": "now() + interval '1 hour' + interval '1 second' * (g.number % 10000)",
        "refresh_due_at": "now() + interval '1 day' + interval '1 minute' * (g.number % 40000)",
        **(more or {}),
    }
    names = [column.name for column in connection_table.columns]
    values = ", ".join(own.get(name, f"c.{name}") for name in names)
    numbers = f"SELECT number, md5(number::text) AS id FROM generate_series(1, {rows}) number ORDER BY id"
    fill_without_indexes(
        database_url,
        "connection",
        f"INSERT INTO connection ({', '.join(names)}) SELECT {values} FROM connection c, ({numbers}) g",
    )


def add_history(database_url: str, connections: int, rows: int) -> None:
    """Write so many runs, requests, decisions and events of these connections."""
    for table, statement in HISTORY.items():
        text = statement.replace("%(rows)s", str(rows)).replace("%(connections)s", str(connections))
        fill_without_indexes(database_url, table, text.replace("%%", "%"))


def fill_without_indexes(database_url: str, table: str, statement: str) -> None:
    """Run what fills a table, and build its indexes afterwards: that takes a tenth of the time."""
    with psycopg.connect(database_url.replace("+psycopg", "")) as sql:
        sql.execute("SET LOCAL maintenance_work_mem = '1GB'")
        sql.execute("SET LOCAL work_mem = '512MB'")
        found = sql.execute(INDEXES, (table, table)).fetchall()
        for drop, _ in found:
            sql.execute(drop)
        sql.execute(statement.encode())
        for _, create in found:
            sql.execute(create)
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as sql:
        sql.execute(f"VACUUM ANALYZE {table}".encode())
