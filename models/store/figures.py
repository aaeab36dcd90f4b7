"""Figures over the whole database that pictures are made of, each from a bounded number of rows or an index alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Integer,
    Table,
    Text,
    case,
    cast,
    extract,
    func,
    literal,
    select,
    tablesample,
    text,
)
from sqlalchemy import Connection as SqlConnection

from models.store.rows import table_of
from models.store.tables import ConnectionRow, EventRow, RequestBatchRow, SyncRunRow
from models.sync.sync_run import RunStatus

connections = table_of(ConnectionRow)
runs = table_of(SyncRunRow)
batches = table_of(RequestBatchRow)
events = table_of(EventRow)


most_pages = 4_000
"""Of 8 KB: so much of a history is looked at. Of more a random part is, on PostgreSQL."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was counted of one span of time.

    total, bad: how many things were seen, and how many of these went wrong.
    share: which part of all was looked at, up to 1.
    """

    total: int
    bad: int
    share: float = 1.0


class Figures:
    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def refreshes_by_day(self, until: datetime) -> Mapping[date, int]:
        """Count the refreshes that are due before then by their day in UTC, from their index alone."""
        day = func.date(connections.c.refresh_due_at)
        query = select(day, func.count()).where(connections.c.refresh_due_at < until).group_by(day)
        return {_to_date(found): number for found, number in self.sql.execute(query)}

    def syncs_of(self, starts: Sequence[datetime], length: timedelta) -> Sequence[Sample]:
        """Count the syncs that ended in each of the spans, which follow each other."""
        share = self._share_of("sync_run", starts)
        source = self._part_of(runs, share)
        ended = source.c.status.in_((RunStatus.completed.value, RunStatus.failed.value))
        failed = source.c.status == RunStatus.failed.value
        query = select(self._part_at(source.c.finished_at, length), _number_of(ended), _number_of(failed))
        return self._sample(query.select_from(source), source.c.finished_at, starts, length, share)

    def requests_of(self, starts: Sequence[datetime], length: timedelta) -> Sequence[Sample]:
        """Count the API requests of each of the spans, which follow each other.

        Bad is a request without an answer, or with one of 400 or more.
        """
        share = self._share_of("request_batch", starts)
        source = self._part_of(batches, share)
        if self._is_postgres:
            each = func.json_array_elements(cast(source.c.calls, JSON)).table_valued("value")
            status = cast(func.json_extract_path_text(each.c.value, literal("3", Text)), Integer)
        else:
            each = func.json_each(source.c.calls).table_valued("value")
            status = cast(func.json_extract(each.c.value, "$[3]"), Integer)
        query = select(self._part_at(source.c.at, length), func.count(), _number_of((status == 0) | (status >= 400)))
        return self._sample(query.select_from(source.join(each, literal(True))), source.c.at, starts, length, share)

    @property
    def _is_postgres(self) -> bool:
        return self.sql.dialect.name == "postgresql"

    def _share_of(self, table: str, starts: Sequence[datetime]) -> float:
        """Return which part of a history is to be looked at, by how large its partitions of these days are."""
        if not self._is_postgres or not starts:
            return 1.0
        query = text(
            "SELECT coalesce(sum(pg_relation_size(relid)), 0) / 8192 FROM pg_partition_tree(CAST(:name AS regclass)) "
            "WHERE isleaf AND (CAST(relid AS text) NOT LIKE '%\\_day\\_%' OR right(CAST(relid AS text), 8) >= :day)"
        )
        day = f"{min(starts):%Y%m%d}"
        pages = float(self.sql.execute(query, {"name": table, "day": day}).scalar_one())
        return min(1.0, most_pages / max(pages, 1.0))

    def _part_of(self, table: Table, share: float) -> Any:
        return table if share == 1 else tablesample(table, func.system(share * 100))

    def _part_at(self, column: ColumnElement[Any], length: timedelta) -> ColumnElement[Any]:
        """Return the number of the span that a time is in, counted from 1970."""
        seconds = int(length.total_seconds())
        if self._is_postgres:
            return cast(func.floor(extract("epoch", column) / seconds), Integer)
        return cast(func.strftime("%s", column), Integer) // seconds

    def _sample(
        self,
        query: Any,
        at: ColumnElement[Any],
        starts: Sequence[datetime],
        length: timedelta,
        share: float,
    ) -> Sequence[Sample]:
        if not starts:
            return []
        chosen = query.where(at >= min(starts), at < max(starts) + length).group_by(query.selected_columns[0])
        found = {int(part): (total, bad) for part, total, bad in self.sql.execute(chosen)}
        seconds = int(length.total_seconds())
        return [Sample(*found.get(int(start.timestamp()) // seconds, (0, 0)), share) for start in starts]

    def backlogs(self, most: int) -> Mapping[str, tuple[int, datetime]]:
        """Count the unpublished events of each stream, up to `most` of all, and since when the oldest has waited."""
        unpublished = select(events.c.stream, events.c.waits_since).where(events.c.published_at.is_(None))
        found = unpublished.order_by(events.c.position).limit(most).subquery()
        query = select(found.c.stream, func.count(), func.min(found.c.waits_since)).group_by(found.c.stream)
        return {stream: (number, since) for stream, number, since in self.sql.execute(query)}


def _number_of(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _to_date(found: date | str) -> date:
    return date.fromisoformat(found) if isinstance(found, str) else found
