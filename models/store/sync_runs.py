"""Sync runs, and the ids on the pages that they read."""

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
    """The sync runs of one transaction's database."""

    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def running(self, connection_id: str) -> SyncRun | None:
        """Return the connection's run that is under way, one at most; the caller has locked the connection."""
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
        """Delete up to `limit` runs that ended before then; the newest of each connection stays."""
        newer = table.alias()
        is_followed = (newer.c.connection_id == table.c.connection_id) & (newer.c.started_at > table.c.started_at)
        old = select(table.c.id).where(table.c.finished_at < before, select(newer.c.id).where(is_followed).exists())
        chosen = old.order_by(table.c.finished_at).limit(limit)
        return self.sql.execute(delete(table).where(table.c.id.in_(chosen))).rowcount

    def has(self, run_id: str) -> bool:
        """Whether this run was started and is not pruned."""
        return self.sql.execute(select(table.c.id).where(table.c.id == run_id)).first() is not None

    def add(self, run: SyncRun) -> None:
        self.sql.execute(insert(table).values(**_from_run(run)))

    def save(self, run: SyncRun) -> None:
        self.sql.execute(update(table).where(table.c.id == run.id).values(**_from_run(run)))
        if run.status is not RunStatus.running:
            self.sql.execute(delete(pages).where(pages.c.run_id == run.id))

    def end(self, connection_id: str, reason: str) -> None:
        """End the run of a connection that ended; what it committed stays."""
        run = self.running(connection_id)
        if run is not None:
            self.save(end(run, reason))

    def note_page(self, run_id: str, source: str, pass_number: int, page: PageSeen) -> None:
        values = {
            "total": page.total,
            "last_page": page.last_page,
            "ids": list(page.ids),
            "nameless": page.nameless,
        }
        key = {"run_id": run_id, "source": source, "pass_number": pass_number, "page": page.page}
        self.sql.execute(insert_or_update(self.sql, pages, key | values, values))

    def page_of(self, run_id: str, source: str, pass_number: int, page: int) -> PageSeen | None:
        """Return one page of a list in this pass; None if it was not read."""
        return next(iter(self._find(run_id, source, pass_number, pages.c.page == page)), None)

    def pages_of(self, run_id: str, source: str, pass_number: int) -> tuple[PageSeen, ...]:
        """Return the pages of a list that this pass has read so far."""
        return self._find(run_id, source, pass_number)

    def totals_of(self, run_id: str) -> dict[str, int]:
        """Return how many records each list has, as the provider says; only for lists that this run started to read."""
        query = select(pages.c.source, func.max(pages.c.total)).where(pages.c.run_id == run_id)
        return dict(self.sql.execute(query.group_by(pages.c.source)).all())

    def drop_pages(self, run_id: str, source: str) -> None:
        self.sql.execute(delete(pages).where(pages.c.run_id == run_id, pages.c.source == source))

    def _find(self, run_id: str, source: str, pass_number: int, *more: ColumnElement[bool]) -> tuple[PageSeen, ...]:
        query = (
            select(pages.c.page, pages.c.total, pages.c.last_page, pages.c.ids, pages.c.nameless)
            .where(pages.c.run_id == run_id, pages.c.source == source, pages.c.pass_number == pass_number, *more)
            .order_by(pages.c.page)
        )
        return tuple(PageSeen(row[0], row[1], row[2], tuple(row[3]), row[4]) for row in self.sql.execute(query))


def _to_run(row: RowMapping) -> SyncRun:
    return SyncRun(**dict(row) | {"status": RunStatus(row["status"])})


def _from_run(run: SyncRun) -> dict[str, object]:
    return {name: getattr(run, name) for name in names_of(SyncRun)} | {"status": run.status.value}
