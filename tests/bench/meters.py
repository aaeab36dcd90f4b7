"""What a batch of jobs costs: CPU of processes, and what PostgreSQL and Redis counted meanwhile."""

import os
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import psycopg
import redis
from sqlalchemy import make_url

from tests.servers import children_of

TICKS = os.sysconf("SC_CLK_TCK")
STATEMENTS = """
    SELECT coalesce(sum(calls), 0)::bigint FROM public.pg_stat_statements JOIN pg_database ON oid = dbid
    WHERE datname = %s AND toplevel AND query !~* '^ *(begin|set local|commit|rollback)'
"""
COMMITS = """
    SELECT coalesce(sum(count), 0)::bigint FROM public.pg_get_wal_stats(%s, %s, true)
    WHERE "resource_manager/record_type" LIKE 'Transaction/COMMIT%%'
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """Totals since the servers started, or the difference of two of them.

    wall, cpu, database: seconds; the last two of CPU, of the side's processes and of PostgreSQL's.
    statements: of the side's database; BEGIN with its SET LOCAL, COMMIT and ROLLBACK are none.
    commits: those that wrote something, which are those that wait for the disk.
    wal: bytes.
    round_trips: what Redis read from its clients, a pipeline counted once; without our own.
    """

    wall: float
    cpu: float
    database: float
    statements: float
    commits: float
    wal: float
    round_trips: float

    def __sub__(self, before: "Reading") -> "Reading":
        return Reading(*(getattr(self, each.name) - getattr(before, each.name) for each in fields(self)))

    def net_of(self, idle: "Reading") -> "Reading":
        """Without what the processes use in the same time with nothing to do."""
        share = self.wall / idle.wall
        own = {each.name: getattr(self, each.name) - getattr(idle, each.name) * share for each in fields(self)}
        return Reading(**own | {"wall": self.wall})

    def per(self, jobs: int) -> "Reading":
        return Reading(*(getattr(self, each.name) / jobs for each in fields(self)))


class Meters:
    """Reads everything that is counted; asking costs none of the sides anything."""

    def __init__(self, postgres_url: str, redis_url: str) -> None:
        self.sql = psycopg.connect(make_url(postgres_url).set(drivername="postgresql").render_as_string(False))
        self.sql.autocommit = True
        for extension in ("pg_stat_statements", "pg_walinspect"):
            self.sql.execute(f"CREATE EXTENSION {extension} SCHEMA public".encode())
        self.postgres_pid = parent_of(self.sql.info.backend_pid)
        self._clients: list[Any] = [redis.Redis.from_url(f"{redis_url[:-1]}{number}") for number in (0, 1)]
        self.own_reads = 0
        self._commits, self._position = 0, self._ask("SELECT pg_current_wal_flush_lsn()")

    def read(self, database: str, pids: Collection[int]) -> Reading:
        """Read the clocks first: what follows takes a moment, and is not to be counted."""
        wall, cpu, of_postgres = time.monotonic(), sum(map(cpu_seconds, pids)), self.database_cpu()
        statements = self._ask(STATEMENTS, database)
        end = self._ask("SELECT pg_current_wal_flush_lsn()")
        if end != self._position:
            self._commits += self._ask(COMMITS, self._position, end)
        self._position = end
        wal = self._ask("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
        self.own_reads += 1
        reads = self._clients[0].info("stats")["total_reads_processed"] - self.own_reads
        return Reading(wall, cpu, of_postgres, statements, self._commits, wal, reads)

    def _ask(self, query: str, *values: object) -> Any:
        found = self.sql.execute(query.encode(), values or None).fetchone()
        assert found is not None
        return found[0]

    def count_entries(self, database: int, keys: Mapping[str, str]) -> int:
        """Return what the keys of a database of Redis hold together; by key, the command that counts."""
        pipeline = self._clients[database].pipeline(transaction=False)
        for key, command in keys.items():
            pipeline.execute_command(command, key)
        self.own_reads += 1
        return int(sum(pipeline.execute()))

    def database_cpu(self) -> float:
        """Of the server and all its processes, also of those that have ended; not of the one that answers us."""
        stat = stat_of(self.postgres_pid)
        ended = (int(stat[13]) + int(stat[14])) / TICKS
        running = {self.postgres_pid, *children_of(self.postgres_pid)} - {self.sql.info.backend_pid}
        return ended + sum(map(cpu_seconds, running))

    def close(self) -> None:
        self.sql.close()
        for client in self._clients:
            client.close()


def stat_of(pid: int) -> list[str]:
    """Return what stands behind the name in the process's stat, from its state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def parent_of(pid: int) -> int:
    return int(stat_of(pid)[1])


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process with all its threads, to the microsecond; 0 if it has ended."""
    with suppress(OSError):
        return time.clock_gettime((~pid << 3) | 2)  # what clock_getcpuclockid(3) returns
    return 0.0


def family_of(pid: int) -> list[int]:
    """Return the process and all that descend from it."""
    return [pid, *(each for child in children_of(pid) for each in family_of(child))]
