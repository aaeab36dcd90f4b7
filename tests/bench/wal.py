"""What a job writes to PostgreSQL's WAL, by table: `python -m tests.bench.wal`.

Each job runs for every connection, on this thread and without a worker; the events of all leave at the end. The first
round of each kind warms up, and only the second is printed. A table's indexes and its TOAST table count for it.
"""

import logging
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fakeredis
import psycopg
import structlog
from sqlalchemy import make_url

import sandbox
from models.messaging.events import StreamSettings
from models.store import Store
from tests.databases import create_template, open_fast_engine
from tests.harness import House, build_house
from tests.servers import Postgres, own_postgres, postgres_user
from worker.queue.publish import PublishEvents

CONNECTIONS = 12
"""Each is refreshed twice within a minute, which the token endpoint's limit allows."""
TABLES = """
    SELECT each.relfilenode::text, coalesce(of_toast.relname, of_index.relname, each.relname) FROM pg_class each
    LEFT JOIN pg_index ON indexrelid = each.oid
    LEFT JOIN pg_class of_index ON of_index.oid = indrelid
    LEFT JOIN pg_class of_toast ON of_toast.reltoastrelid = coalesce(of_index.oid, each.oid)
    WHERE each.relfilenode <> 0
"""
RECORDS = """
    SELECT coalesce(block_ref, ''), record_length - fpi_length FROM pg_get_wal_records_info(%s, %s)
"""
Sql = psycopg.Connection[tuple[Any, ...]]
MAKE_DUE = {
    "sync": "sync_due_at = now() - interval '1 second', full_due_at = now() - interval '1 second'",
    "pulse": "sync_due_at = now() - interval '1 second', full_due_at = now() + interval '1 day', "
    "lists_due_at = now() + interval '1 day'",
}


@contextmanager
def recording(sql: Sql) -> Iterator[Counter[str]]:
    """Count the bytes that the block writes, by table; full pages, which a checkpoint is the reason for, are none."""
    written: Counter[str] = Counter()
    start = position(sql)
    yield written
    end = position(sql)
    tables: dict[str, str] = {str(file): str(table) for file, table in sql.execute(TABLES).fetchall()}
    sql.execute("CREATE TABLE flushed ()")
    sql.execute("DROP TABLE flushed")
    for block, length in sql.execute(RECORDS, (start, end)).fetchall():
        found = re.search(r"rel \d+/\d+/(\d+)", block)
        written[tables.get(found[1], "other") if found else "commits"] += length


def position(sql: Sql) -> str:
    [place] = sql.execute("SELECT pg_current_wal_insert_lsn()").fetchall()
    return str(place[0])


def measure(house: House, sql: Sql) -> None:
    ids = [house.connect(f"u{n}", house.control.add_user(f"User {n}", documents=5)).id for n in range(CONNECTIONS)]
    house.work()
    house.control.set(rate_limit=0)

    def run(kind: str, job: Callable[[str], None]) -> Counter[str]:
        for id_ in ids:
            if kind == "refresh":
                house.make_refresh_due(id_)
            else:
                sql.execute(f"UPDATE connection SET {MAKE_DUE[kind]} WHERE id = %s".encode(), (id_,))
        with recording(sql) as written:
            for id_ in ids:
                job(id_)
            house.flows.publish()
        return written

    def sync(id_: str) -> None:
        house.flows.sync(id_, asked=False)

    jobs: dict[str, Callable[[str], None]] = {"refresh": house.flows.refresh, "sync": sync, "pulse": sync}
    for kind, job in jobs.items():
        run(kind, job)
        show(kind, run(kind, job))


def show(kind: str, written: Counter[str]) -> None:
    total = sum(written.values())
    print(f"{kind}: {total / CONNECTIONS:,.0f} bytes")
    for table, length in written.most_common():
        print(f"  {length / total:4.0%}  {length / CONNECTIONS:6,.0f}  {table}")


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with (
        own_postgres(postgres_user()) as server,
        sandbox.running() as provider,
        tempfile.TemporaryDirectory() as spool,
    ):
        url = create_template(Postgres(server.url))
        streams: Any = {name: StreamSettings(name, 1_000) for name in ("events", "records")}
        store = Store(open_fast_engine(url))
        publish = PublishEvents(store, fakeredis.FakeRedis(), streams, lambda: datetime.now(UTC))
        house = build_house(url, provider, Path(spool), publish)
        plain = make_url(url).set(drivername="postgresql").render_as_string(False)
        with psycopg.connect(plain, autocommit=True) as sql:
            sql.execute("CREATE EXTENSION pg_walinspect")
            measure(house, sql)
        house.close()
        store.close()


if __name__ == "__main__":
    main()
