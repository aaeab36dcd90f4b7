"""Figures over the whole database that pictures are made of, each from a bounded number of rows or an index alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import JSON, ColumnElement, Integer, Select, Text, case, cast, func, literal, select, union_all
from sqlalchemy import Connection as SqlConnection

from models.store.rows import table_of
from models.store.tables import ConnectionRow, EventRow, RequestBatchRow, SyncRunRow
from models.sync.sync_run import RunStatus

connections = table_of(ConnectionRow)
runs = table_of(SyncRunRow)
batches = table_of(RequestBatchRow)
events = table_of(EventRow)


@dataclass(frozen=True, slots=True)
class Sample:
    """What was counted of one span of time, in the order in which it happened.

    rows: how many rows were looked at.
    total, bad: how many things they are, and how many of these went wrong.
    last_at: when the last of them happened; None if there is none.
    """

    rows: int
    total: int
    bad: int
    last_at: datetime | None


_Numbers = Select[Any, Any, Any, Any, Any]
nothing = Sample(0, 0, 0, None)


class Figures:
    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def refreshes_by_day(self, until: datetime) -> Mapping[date, int]:
        """Count the refreshes that are due before then by their day in UTC, from their index alone."""
        day = func.date(connections.c.refresh_due_at)
        query = select(day, func.count()).where(connections.c.refresh_due_at < until).group_by(day)
        return {_to_date(found): number for found, number in self.sql.execute(query)}

    def syncs_of(self, starts: Sequence[datetime], length: timedelta, most: int) -> Sequence[Sample]:
        """Count the syncs that ended in each span that begins at one of `starts`, `most` of each span at most."""

        def sample(place: int, start: datetime) -> _Numbers:
            ended = runs.c.finished_at
            chosen = select(runs.c.status, ended).where(ended >= start, ended < start + length)
            found = chosen.order_by(ended).limit(most).subquery(f"found_{place}")
            counted = found.c.status.in_((RunStatus.completed.value, RunStatus.failed.value))
            failed = found.c.status == RunStatus.failed.value
            numbers = (func.count(), _number_of(counted), _number_of(failed), func.max(found.c.finished_at))
            query: _Numbers = select(literal(place, Integer), *numbers)
            return query

        return self._sample(sample, starts)

    def requests_of(self, starts: Sequence[datetime], length: timedelta, most: int) -> Sequence[Sample]:
        """Count the API requests of each span, from the rows of at most `most` jobs of each.

        Bad is a request without an answer, or with one of 400 or more.
        """
        is_postgres = self.sql.dialect.name == "postgresql"

        def sample(place: int, start: datetime) -> _Numbers:
            at = batches.c.at
            chosen = select(at, batches.c.calls).where(at >= start, at < start + length).order_by(at).limit(most)
            found = chosen.subquery(f"found_{place}")
            if is_postgres:
                each = func.json_array_elements(cast(found.c.calls, JSON)).table_valued("value")
                status = cast(func.json_extract_path_text(each.c.value, literal("3", Text)), Integer)
            else:
                each = func.json_each(found.c.calls).table_valued("value")
                status = cast(func.json_extract(each.c.value, "$[3]"), Integer)
            bad = (status == 0) | (status >= 400)
            numbers = (func.count(found.c.at.distinct()), func.count(), _number_of(bad), func.max(found.c.at))
            query: _Numbers = select(literal(place, Integer), *numbers)
            return query.select_from(found.join(each, literal(True)))

        return self._sample(sample, starts)

    def _sample(self, sample: Callable[[int, datetime], _Numbers], starts: Sequence[datetime]) -> Sequence[Sample]:
        if not starts:
            return []
        query = union_all(*(select(sample(place, start).subquery()) for place, start in enumerate(starts)))
        found = {place: Sample(*numbers) for place, *numbers in self.sql.execute(query)}
        return [found.get(place, nothing) for place in range(len(starts))]

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
