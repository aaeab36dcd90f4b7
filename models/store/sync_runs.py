"""Sync runs and the ids that their pages held."""

from datetime import datetime

from sqlalchemy import ColumnElement, RowMapping, delete, func, insert, select, update
from sqlalchemy import Connection as SqlConnection

from models.store.dialect import insert_or_update
from models.store.rows import names_of, table_of
from models.store.tables import SyncPageRow, SyncRunRow
from models.sync.absence import PageSeen
from models.sync.sync_run import RunStatus, SyncRun, end

table = table_of(SyncRunRow)
pages = table_of(SyncPageRow)
columns = [table.c[name] for name in names_of(SyncRun)]


class Runs:
    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def running(self, connection_id: str) -> SyncRun | None:
        """The connection's run that has not ended: one at most. The caller holds the connection's row lock."""
        query = select(*columns).where(
            table.c.connection_id == connection_id, table.c.status == RunStatus.running.value
        )
        row = self.sql.execute(query).mappings().first()
        return _to_run(row) if row else None

    def newest(self, connection_id: str) -> SyncRun | None:
        query = select(*columns).where(table.c.connection_id == connection_id).order_by(table.c.started_at.desc())
        row = self.sql.execute(query.limit(1)).mappings().first()
        return _to_run(row) if row else None

    def prune(self, before: datetime, limit: int) -> int:
        """Forgets up to `limit` runs that ended before then; the newest of each connection stays."""
        newer = table.alias()
        is_followed = (newer.c.connection_id == table.c.connection_id) & (newer.c.started_at > table.c.started_at)
        old = select(table.c.id).where(table.c.finished_at < before, select(newer.c.id).where(is_followed).exists())
        chosen = old.order_by(table.c.finished_at).limit(limit)
        return self.sql.execute(delete(table).where(table.c.id.in_(chosen))).rowcount

    def has(self, run_id: str) -> bool:
        """Whether this run was begun, and is not forgotten."""
        return self.sql.execute(select(table.c.id).where(table.c.id == run_id)).first() is not None

    def add(self, run: SyncRun) -> None:
        self.sql.execute(insert(table).values(**_from_run(run)))

    def save(self, run: SyncRun) -> None:
        self.sql.execute(update(table).where(table.c.id == run.id).values(**_from_run(run)))
        if run.status is not RunStatus.running:
            self.sql.execute(delete(pages).where(pages.c.run_id == run.id))

    def end(self, connection_id: str, reason: str) -> None:
        """Ends the run of a connection that ended, keeping what it committed."""
        run = self.running(connection_id)
        if run is not None:
            self.save(end(run, reason))

    def note_page(self, run_id: str, source: str, reading: int, page: PageSeen) -> None:
        values = {
            "total": page.total,
            "last_page": page.last_page,
            "ids": list(page.ids),
            "nameless": page.nameless,
        }
        key = {"run_id": run_id, "source": source, "reading": reading, "page": page.page}
        self.sql.execute(insert_or_update(self.sql, pages, key | values, values))

    def page_of(self, run_id: str, source: str, reading: int, page: int) -> PageSeen | None:
        """One page of a list in this reading, if it was read."""
        return next(iter(self._find(run_id, source, reading, pages.c.page == page)), None)

    def pages_of(self, run_id: str, source: str, reading: int) -> tuple[PageSeen, ...]:
        """What this reading of a list has seen so far."""
        return self._find(run_id, source, reading)

    def totals_of(self, run_id: str) -> dict[str, int]:
        """How many records each list of this run holds, as the provider said; only of those that were begun."""
        query = select(pages.c.source, func.max(pages.c.total)).where(pages.c.run_id == run_id)
        return dict(self.sql.execute(query.group_by(pages.c.source)).all())

    def drop_pages(self, run_id: str, source: str) -> None:
        self.sql.execute(delete(pages).where(pages.c.run_id == run_id, pages.c.source == source))

    def _find(self, run_id: str, source: str, reading: int, *more: ColumnElement[bool]) -> tuple[PageSeen, ...]:
        query = (
            select(pages.c.page, pages.c.total, pages.c.last_page, pages.c.ids, pages.c.nameless)
            .where(pages.c.run_id == run_id, pages.c.source == source, pages.c.reading == reading, *more)
            .order_by(pages.c.page)
        )
        return tuple(PageSeen(row[0], row[1], row[2], tuple(row[3]), row[4]) for row in self.sql.execute(query))


def _to_run(row: RowMapping) -> SyncRun:
    return SyncRun(**dict(row) | {"status": RunStatus(row["status"])})


def _from_run(run: SyncRun) -> dict[str, object]:
    return {name: getattr(run, name) for name in names_of(SyncRun)} | {"status": run.status.value}
