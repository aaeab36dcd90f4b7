"""History in partitions by day on PostgreSQL: made ahead, and dropped instead of deleted row by row.

Nothing else knows of them: everyone reads and writes the tables `event`, `sync_run` and `request_batch`. What is not
over yet is in a partition of its own, which no day is: events without `published_at` in `event_live`, runs without
`finished_at` in `sync_run_live`. A row moves to its day in the update that ends it. So a query that asks for
`IS NULL` plans for and reads one small table, however long the history is, and a day that is dropped has no
unpublished event. A row for which there is no day goes into the table's default partition, and nothing fails.

The partitions have an owner, which no process is. So two functions of the owner make and drop days, and do nothing else
(migration 0019); they wait for a lock for half a second at most, and do nothing while another session runs them.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import text

days_ahead = 5
"""How many days are there before they begin: for so long no scheduler need run."""
longest_move_ms = 5_000
"""A day is made beside what the default partition has, which is locked meanwhile: give up after this time."""
parents: Final[Mapping[str, str]] = {
    "event": "event_past",
    "request_batch": "request_batch",
    "sync_run": "sync_run_past",
}
"""Of each table in days, the one whose partitions they are."""
partition_name = re.compile(r"(event|request_batch|sync_run)_(live|past|default|day_\d{8})")


@dataclass(frozen=True, slots=True, order=True)
class Day:
    """One day, in UTC, of a table."""

    table: str
    date: date


def choose_missing(existing: Collection[Day], now: datetime, tables: Iterable[str] = parents) -> list[Day]:
    """Return today's and the coming days that are not there, the soonest first."""
    dates = [now.date() + timedelta(days=ahead) for ahead in range(days_ahead + 1)]
    return [day for each in dates for table in tables if (day := Day(table, each)) not in existing]


def choose_old(existing: Collection[Day], before: datetime) -> list[Day]:
    """Return the days that were over before then, the oldest first."""
    return sorted((day for day in existing if day.date < before.date()), key=lambda day: day.date)


def start_of_day(at: datetime) -> datetime:
    return datetime.combine(at.date(), time(), at.tzinfo)


class Days:
    """The days of one transaction's database, which is PostgreSQL: on SQLite rows are deleted."""

    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def existing(self) -> frozenset[Day]:
        query = text(
            "SELECT pg_class.relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
            "WHERE inhparent IN (SELECT to_regclass(parent) FROM unnest(CAST(:parents AS text[])) AS parent)"
        )
        names = self.sql.execute(query, {"parents": list(parents.values())}).scalars()
        return frozenset(day for name in names if (day := _read_name(name)) is not None)

    def make(self, day: Day) -> bool:
        """Make a day, and move what the default partition has of it; return False if another session does.

        Raises `StoreUnavailable` if someone has the default partition locked, or if it has too much to move.
        """
        self.sql.execute(text(f"SET LOCAL statement_timeout = {longest_move_ms}"))
        return self._call("breezesync_make_day", day)

    def drop(self, day: Day) -> bool:
        """Drop a day with its rows but the newest run of each connection; return False if another session does.

        Raises `StoreUnavailable` if someone has the table locked.
        """
        return self._call("breezesync_drop_day", day)

    def _call(self, function: str, day: Day) -> bool:
        query = text(f"SELECT {function}(:kind, :day)")
        return bool(self.sql.execute(query, {"kind": day.table, "day": day.date}).scalar_one())

    def count_strays(self) -> dict[str, int]:
        """Count, up to 1,000, the rows of each table in its default partition that a day should have."""
        if self.sql.dialect.name != "postgresql":
            return {}
        query = text("SELECT breezesync_stray_rows(:kind)")
        counts = {table: int(self.sql.execute(query, {"kind": table}).scalar_one()) for table in parents}
        return {table: count for table, count in counts.items() if count}


def _read_name(partition: str) -> Day | None:
    found = partition_name.fullmatch(partition)
    if found is None or not found[2].startswith("day_"):
        return None
    return Day(found[1], datetime.strptime(found[2], "day_%Y%m%d").date())  # noqa: DTZ007 - a date has no zone
