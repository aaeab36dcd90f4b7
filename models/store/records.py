"""Records: what is known of a page's ids, what a page changed, what is gone; and each resource's reading state."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import bindparam, delete, func, insert, select, update

from models.records import Changed, Known
from models.store.dialect import insert_or_update
from models.store.rows import table_of
from models.tables import RecordRow, ResourceRow

table = table_of(RecordRow)
resources = table_of(ResourceRow)


class Records:
    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def known(self, connection_id: str, resource: str, ids: Collection[str]) -> dict[str, Known]:
        query = select(table.c.external_id, table.c.content_hash, table.c.data, table.c.deleted_at).where(
            table.c.connection_id == connection_id, table.c.resource == resource, table.c.external_id.in_(ids)
        )
        rows = self.sql.execute(query)
        return {row.external_id: Known(row.content_hash, row.data, row.deleted_at is not None) for row in rows}

    def write(
        self, connection_id: str, resource: str, changes: Sequence[Changed], known: Collection[str], now: datetime
    ) -> None:
        """Writes new and changed records; one that was deleted and is back keeps its first sight."""
        key = {"connection_id": connection_id, "resource": resource}
        fresh = [c.item for c in changes if c.item.external_id not in known]
        stale = [c.item for c in changes if c.item.external_id in known]
        if fresh:
            times = {"first_seen_at": now, "changed_at": now, "deleted_at": None}
            values = [
                key | times | {"external_id": i.external_id, "data": i.data, "content_hash": i.content_hash}
                for i in fresh
            ]
            self.sql.execute(insert(table), values)
        if stale:
            statement = (
                update(table)
                .where(
                    table.c.connection_id == connection_id,
                    table.c.resource == resource,
                    table.c.external_id == bindparam("its_id"),
                )
                .values(data=bindparam("its_data"), content_hash=bindparam("its_hash"), changed_at=now, deleted_at=None)
            )
            values = [{"its_id": i.external_id, "its_data": i.data, "its_hash": i.content_hash} for i in stale]
            self.sql.execute(statement, values)

    def living_ids(self, connection_id: str, resource: str) -> set[str]:
        query = select(table.c.external_id).where(
            table.c.connection_id == connection_id, table.c.resource == resource, table.c.deleted_at.is_(None)
        )
        return set(self.sql.execute(query).scalars())

    def mark_deleted(self, connection_id: str, resource: str, ids: Sequence[str], now: datetime) -> None:
        statement = update(table).where(
            table.c.connection_id == connection_id,
            table.c.resource == resource,
            table.c.external_id == bindparam("its_id"),
        )
        self.sql.execute(statement.values(deleted_at=now, changed_at=now), [{"its_id": i} for i in ids])

    def count(self, connection_id: str) -> dict[str, int]:
        query = (
            select(table.c.resource, func.count())
            .where(table.c.connection_id == connection_id, table.c.deleted_at.is_(None))
            .group_by(table.c.resource)
        )
        return dict(self.sql.execute(query).all())

    def erase(self, connection_id: str) -> int:
        """Deletes every record of the connection for good."""
        self.sql.execute(delete(resources).where(resources.c.connection_id == connection_id))
        return self.sql.execute(delete(table).where(table.c.connection_id == connection_id)).rowcount

    def was_read_before(self, connection_id: str, resource: str) -> bool:
        query = select(resources.c.first_read_at).where(
            resources.c.connection_id == connection_id, resources.c.name == resource
        )
        return self.sql.execute(query).scalar() is not None

    def note_read(self, connection_id: str, resource: str, now: datetime) -> None:
        values = {
            "connection_id": connection_id,
            "name": resource,
            "first_read_at": now,
            "last_read_at": now,
            "problem": None,
        }
        changes = {
            "first_read_at": func.coalesce(resources.c.first_read_at, now),
            "last_read_at": now,
            "problem": None,
        }
        self.sql.execute(insert_or_update(self.sql, resources, values, changes))

    def note_problem(self, connection_id: str, resource: str, problem: str) -> None:
        values = {"connection_id": connection_id, "name": resource, "problem": problem}
        self.sql.execute(insert_or_update(self.sql, resources, values, {"problem": problem}))

    def resource_problems(self, connection_id: str) -> dict[str, str]:
        query = select(resources.c.name, resources.c.problem).where(
            resources.c.connection_id == connection_id, resources.c.problem.is_not(None)
        )
        return dict(self.sql.execute(query).all())
