"""Records, and the state of each list: when it was first and last read, and its problem."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Text, bindparam, cast, delete, func, insert, select, update
from sqlalchemy import Connection as SqlConnection

from models import exact_json
from models.store.dialect import insert_or_update
from models.store.rows import table_of
from models.store.tables import RecordRow, ResourceRow
from models.sync.records import Json, Known, RecordChanges

table = table_of(RecordRow)
resources = table_of(ResourceRow)
as_text = cast(table.c.data, Text)
"""The stored JSON itself: the drivers would read its numbers as floats."""


class Records:
    """The records and lists of one transaction's database."""

    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def known(self, connection_id: str, resource: str, ids: Collection[str]) -> dict[str, Known]:
        columns = (table.c.content_hash, as_text.label("data"), table.c.deleted_at, table.c.source)
        query = select(table.c.external_id, *columns).where(
            table.c.connection_id == connection_id, table.c.resource == resource, table.c.external_id.in_(ids)
        )
        rows = self.sql.execute(query)
        return {
            row.external_id: Known(row.content_hash, _parse(row.data), row.deleted_at is not None, row.source)
            for row in rows
        }

    def write(self, connection_id: str, changes: RecordChanges, now: datetime) -> None:
        """Write a page's new and changed records, and the list of those that moved."""
        of_resource = (table.c.connection_id == connection_id, table.c.resource == changes.resource)
        if changes.moved:
            moved = update(table).where(*of_resource, table.c.external_id.in_(changes.moved))
            self.sql.execute(moved.values(source=changes.source))
        if changes.new:
            key = {"connection_id": connection_id, "resource": changes.resource, "source": changes.source}
            times = {"first_seen_at": now, "changed_at": now, "deleted_at": None}
            values = [
                key | times | {"external_id": i.external_id, "data": i.data, "content_hash": i.content_hash}
                for i in changes.new
            ]
            self.sql.execute(insert(table), values)
        if changes.changed:
            statement = (
                update(table)
                .where(*of_resource, table.c.external_id == bindparam("its_id"))
                .values(data=bindparam("its_data"), content_hash=bindparam("its_hash"), changed_at=now, deleted_at=None)
            )
            values = [
                {"its_id": i.external_id, "its_data": i.data, "its_hash": i.content_hash} for i in changes.changed
            ]
            self.sql.execute(statement, values)

    def living_ids(self, connection_id: str, resource: str, source: str) -> set[str]:
        """Return the ids of a list's records that are not deleted."""
        query = select(table.c.external_id).where(*_living(connection_id, resource, source))
        return set(self.sql.execute(query).scalars())

    def count_living(self, connection_id: str, resource: str, source: str) -> int:
        query = select(func.count()).select_from(table).where(*_living(connection_id, resource, source))
        return self.sql.execute(query).scalar_one()

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
        """Delete every record of the connection for good; return how many."""
        self.sql.execute(delete(resources).where(resources.c.connection_id == connection_id))
        return self.sql.execute(delete(table).where(table.c.connection_id == connection_id)).rowcount

    def was_read_before(self, connection_id: str, source: str) -> bool:
        return self._of_list(connection_id, source, resources.c.first_read_at) is not None

    def held_back(self, connection_id: str, source: str) -> int | None:
        """Return how many records of a list the last run kept although they were missing."""
        found: int | None = self._of_list(connection_id, source, resources.c.held_back)
        return found

    def note_read(
        self,
        connection_id: str,
        source: str,
        now: datetime,
        problem: str | None = None,
        held_back: int | None = None,
    ) -> None:
        """Note that a list was read to its end; `problem` is why that proved no deletion."""
        state: dict[str, Any] = {"last_read_at": now, "problem": problem, "held_back": held_back}
        first = {"connection_id": connection_id, "name": source, "first_read_at": now}
        changes = {"first_read_at": func.coalesce(resources.c.first_read_at, now)}
        self.sql.execute(insert_or_update(self.sql, resources, state | first, state | changes))

    def note_problem(self, connection_id: str, source: str, problem: str) -> None:
        values = {"connection_id": connection_id, "name": source, "problem": problem}
        self.sql.execute(insert_or_update(self.sql, resources, values, {"problem": problem}))

    def resource_problems(self, connection_id: str) -> dict[str, str]:
        """Return why lists cannot be read, or prove no deletion, by list."""
        query = select(resources.c.name, resources.c.problem).where(
            resources.c.connection_id == connection_id, resources.c.problem.is_not(None)
        )
        return dict(self.sql.execute(query).all())

    def _of_list(self, connection_id: str, source: str, column: ColumnElement[Any]) -> Any:
        query = select(column).where(resources.c.connection_id == connection_id, resources.c.name == source)
        return self.sql.execute(query).scalar()


def _parse(text: str) -> Json:
    data = exact_json.loads(text)
    return data if isinstance(data, dict) else {}


def _living(connection_id: str, resource: str, source: str) -> tuple[ColumnElement[bool], ...]:
    in_list = table.c.source == source
    return table.c.connection_id == connection_id, table.c.resource == resource, in_list, table.c.deleted_at.is_(None)
