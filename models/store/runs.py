"""Sync runs and the ids that their pages held."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import delete, insert, select, update

from models.store.dialect import insert_or_update
from models.store.rows import names_of, table_of
from models.sync_run import PageSeen, SyncRun
from models.tables import SyncPageRow, SyncRunRow

table = table_of(SyncRunRow)
pages = table_of(SyncPageRow)
columns = [table.c[name] for name in names_of(SyncRun)]


class Runs:
    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def running(self, connection_id: str) -> SyncRun | None:
        """The connection's run that has not ended: one at most. The caller holds the connection's row lock."""
        query = select(*columns).where(table.c.connection_id == connection_id, table.c.status == "running")
        row = self.sql.execute(query).mappings().first()
        return SyncRun(**row) if row else None

    def newest(self, connection_id: str) -> SyncRun | None:
        query = select(*columns).where(table.c.connection_id == connection_id).order_by(table.c.started_at.desc())
        row = self.sql.execute(query.limit(1)).mappings().first()
        return SyncRun(**row) if row else None

    def add(self, run: SyncRun) -> None:
        self.sql.execute(insert(table).values(**{name: getattr(run, name) for name in names_of(SyncRun)}))

    def save(self, run: SyncRun) -> None:
        values = {name: getattr(run, name) for name in names_of(SyncRun)}
        self.sql.execute(update(table).where(table.c.id == run.id).values(**values))
        if run.status != "running":
            self.sql.execute(delete(pages).where(pages.c.run_id == run.id))

    def end(self, connection_id: str, reason: str) -> None:
        """Ends the run of a connection that ended, keeping what it committed."""
        run = self.running(connection_id)
        if run is not None:
            self.save(replace(run, status="ended", reason=reason, lease_owner=None, lease_until=None, resume_at=None))

    def note_page(self, run_id: str, place: int, page: PageSeen) -> None:
        values = {"total": page.total, "last_page": page.last_page, "ids": list(page.ids)}
        key = {"run_id": run_id, "place": place, "page": page.page}
        self.sql.execute(insert_or_update(self.sql, pages, key | values, values))

    def pages_of(self, run_id: str, place: int) -> Sequence[PageSeen]:
        query = select(pages.c.page, pages.c.total, pages.c.last_page, pages.c.ids).where(
            pages.c.run_id == run_id, pages.c.place == place
        )
        return [PageSeen(page, total, last, tuple(ids)) for page, total, last, ids in self.sql.execute(query)]

    def drop_pages(self, run_id: str, place: int) -> None:
        self.sql.execute(delete(pages).where(pages.c.run_id == run_id, pages.c.place == place))

    def note_torn(self, run_id: str, place: int) -> None:
        """Marks a list that shifted on every try: a page 0 keeps it from ever counting as whole."""
        self.note_page(run_id, place, PageSeen(0, 0, 0, ()))
