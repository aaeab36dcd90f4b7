"""Records, and the state of each list: whether it was ever read, and its problem."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import Integer, Text, bindparam, cast, delete, func, null, select, union_all, update

from models import exact_json
from models.store.appends import Appends
from models.store.dialect import insert_of
from models.store.rows import table_of
from models.store.statement import InsertMany, Row, Statement, is_one_of
from models.store.tables import RecordRow, ResourceRow
from models.sync.decision import ListRead
from models.sync.records import Json, Known, RecordChanges
from models.sync.since import Marks
from models.sync.snapshot import ListState, Snapshot

table = table_of(RecordRow)
resources = table_of(ResourceRow)
as_text = cast(table.c.data, Text)
"""The stored JSON itself: the drivers would read its numbers as floats."""

_of_resource = (table.c.connection_id == bindparam("own_connection_id"), table.c.resource == bindparam("own_resource"))
_living = (*_of_resource, table.c.source == bindparam("own_source"), table.c.deleted_at.is_(None))
_known = Statement(
    lambda dialect: select(
        table.c.external_id, table.c.content_hash, as_text, table.c.deleted_at.is_not(None), table.c.source
    ).where(*_of_resource, is_one_of(dialect, table.c.external_id, "ids"))
)
_insert = InsertMany(
    table,
    (
        "connection_id",
        "resource",
        "external_id",
        "source",
        "data",
        "content_hash",
        "first_seen_at",
        "changed_at",
        "deleted_at",
    ),
    alike=("connection_id", "first_seen_at", "changed_at", "deleted_at"),
)
_move = Statement(
    lambda dialect: update(table).where(*_of_resource, is_one_of(dialect, table.c.external_id, "ids")), ("source",)
)
_change = Statement(
    update(table).where(*_of_resource, table.c.external_id == bindparam("own_id")),
    ("data", "content_hash", "changed_at", "deleted_at"),
)
_delete = Statement(
    lambda dialect: update(table).where(*_of_resource, is_one_of(dialect, table.c.external_id, "ids")),
    ("deleted_at", "changed_at"),
)
_living_ids = Statement(select(table.c.external_id).where(*_living))
_all_living = Statement(select(table.c.external_id).where(*_of_resource, table.c.deleted_at.is_(None)))
_count_living = Statement(select(func.count()).select_from(table).where(*_living))


def _build_snapshot(dialect: str) -> Any:
    """Return one statement for the records of some resources, up to `most`, and behind them for the connection's lists.

    A record is its resource, id, hash, whether it is deleted, and its list; a list its name, NULL, its problem, whether
    it was read before, where its next incremental reading begins, how many missing records are held back, and the
    newest value that was seen.
    """
    of_connection = bindparam("own_connection_id", type_=Text)
    marks = (
        select(
            table.c.resource,
            table.c.external_id,
            table.c.content_hash,
            table.c.deleted_at.is_not(None).label("flag"),
            table.c.source,
            null().cast(Integer).label("held_back"),
            null().cast(Text).label("newest"),
        )
        .where(table.c.connection_id == of_connection, is_one_of(dialect, table.c.resource, "names"))
        .limit(bindparam("most", type_=Integer))
        .subquery()
    )
    lists = select(
        resources.c.name,
        null().cast(Text),
        resources.c.problem,
        resources.c.first_read_at.is_not(None),
        resources.c.since,
        resources.c.held_back,
        resources.c.newest,
    ).where(resources.c.connection_id == of_connection)
    return union_all(select(marks), lists)


_snapshot = Statement(_build_snapshot)

_of_list = (resources.c.connection_id == bindparam("own_connection_id"), resources.c.name == bindparam("own_name"))
_marks = Statement(
    select(resources.c.name, resources.c.since, resources.c.newest, resources.c.problem).where(
        resources.c.connection_id == bindparam("own_connection_id")
    )
)
_count_by_list = Statement(
    lambda dialect: (
        select(table.c.source, func.count())
        .where(
            table.c.connection_id == bindparam("own_connection_id"),
            is_one_of(dialect, table.c.resource, "names"),
            table.c.deleted_at.is_(None),
        )
        .group_by(table.c.source)
    )
)
_list = Statement(select(resources.c.first_read_at, resources.c.held_back).where(*_of_list))
_forget_lists = Statement(
    lambda dialect: delete(resources).where(
        resources.c.connection_id == bindparam("own_connection_id"), is_one_of(dialect, resources.c.name, "sources")
    )
)
_problems = Statement(
    select(resources.c.name, resources.c.problem).where(
        resources.c.connection_id == bindparam("own_connection_id"), resources.c.problem.is_not(None)
    )
)


def _upsert_list(dialect: str, *replaced: str, keeps: str | None = None) -> Any:
    """Return the insert of a list's row, or the update of these columns; of `keeps` only if it is NULL."""
    inserted = insert_of(dialect, resources)
    changes = {name: inserted.excluded[name] for name in replaced}
    if keeps is not None:
        changes[keeps] = func.coalesce(resources.c[keeps], inserted.excluded[keeps])
    return inserted.on_conflict_do_update(index_elements=["connection_id", "name"], set_=changes)


_state = ("problem", "held_back")
_marks_of_list = ("since", "newest")
_note_read = Statement(
    lambda dialect: _upsert_list(dialect, *_state, keeps="first_read_at"),
    ("connection_id", "name", *_state, "first_read_at"),
)
_note_read_until = Statement(
    lambda dialect: _upsert_list(dialect, *_state, *_marks_of_list, keeps="first_read_at"),
    ("connection_id", "name", *_state, *_marks_of_list, "first_read_at"),
)
_note_problem = Statement(lambda dialect: _upsert_list(dialect, "problem"), ("connection_id", "name", "problem"))


class Records:
    """The records and lists of one transaction's database.

    New records leave at the end of the transaction, unless it reads or changes records before.
    """

    def __init__(self, appends: Appends) -> None:
        self.appends = appends

    @property
    def sql(self) -> SqlConnection:
        return self.appends.sql_after(_insert)

    def known(self, connection_id: str, resource: str, ids: Collection[str]) -> dict[str, Known]:
        rows = _known.all(self.sql, own_connection_id=connection_id, own_resource=resource, ids=list(ids))
        return {row[0]: Known(row[1], _parse(row[2]), bool(row[3]), row[4]) for row in rows}

    def snapshot(self, connection_id: str, names: Collection[str], most: int) -> Callable[[], Snapshot | None]:
        """Ask for what is stored of these resources, without the data; return what gives it, also after the
        transaction: None if they have more than `most` records."""
        of_them = {"own_connection_id": connection_id, "names": sorted(names), "most": most + 1}
        rows = _snapshot.put(self.sql, **of_them)
        return lambda: _to_snapshot(rows.all(), names, most)

    def write(self, connection_id: str, changes: RecordChanges, now: datetime) -> None:
        """Write a page's new and changed records, and the list of those that moved."""
        of_resource = {"own_connection_id": connection_id, "own_resource": changes.resource}
        if changes.moved:
            _move.run(self.sql, ids=list(changes.moved), source=changes.source, **of_resource)
        key = {"connection_id": connection_id, "resource": changes.resource, "source": changes.source}
        times = {"first_seen_at": now, "changed_at": now, "deleted_at": None}
        rows = [
            key | times | {"external_id": each.external_id, "data": each.data, "content_hash": each.content_hash}
            for each in changes.new
        ]
        for each in changes.changed:
            values = {"data": each.data, "content_hash": each.content_hash, "changed_at": now, "deleted_at": None}
            _change.run(self.sql, own_id=each.external_id, **of_resource, **values)
        if rows:
            self.appends.add(_insert, rows)

    def living_ids(self, connection_id: str, resource: str, source: str) -> set[str]:
        """Return the ids of a list's records that are not deleted."""
        of_list = {"own_connection_id": connection_id, "own_resource": resource, "own_source": source}
        return {row[0] for row in _living_ids.all(self.sql, **of_list)}

    def all_living(self, connection_id: str, resource: str) -> set[str]:
        """Return the ids of a resource's records that are not deleted, whichever list they are in."""
        rows = _all_living.all(self.sql, own_connection_id=connection_id, own_resource=resource)
        return {row[0] for row in rows}

    def count_living(self, connection_id: str, resource: str, source: str) -> int:
        of_list = {"own_connection_id": connection_id, "own_resource": resource, "own_source": source}
        return int(_count_living.scalar(self.sql, **of_list))

    def mark_deleted(self, connection_id: str, resource: str, ids: Sequence[str], now: datetime) -> None:
        of_resource = {"own_connection_id": connection_id, "own_resource": resource}
        _delete.run(self.sql, ids=list(ids), deleted_at=now, changed_at=now, **of_resource)

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

    def marks(self, connection_id: str) -> dict[str, tuple[Marks, str | None]]:
        """Return how far each list was read, and its problem, by list."""
        found = _marks.all(self.appends.unflushed, own_connection_id=connection_id)
        return {name: (Marks(since, newest), problem) for name, since, newest, problem in found}

    def count_by_list(self, connection_id: str, names: Collection[str]) -> dict[str, int]:
        """Return how many records of these resources are not deleted, by list."""
        return dict(_count_by_list.all(self.sql, own_connection_id=connection_id, names=sorted(names)))

    def was_read_before(self, connection_id: str, source: str) -> bool:
        row = _list.first(self.appends.unflushed, own_connection_id=connection_id, own_name=source)
        return row is not None and row[0] is not None

    def held_back(self, connection_id: str, source: str) -> int | None:
        """Return how many records of a list the last run kept although they were missing."""
        row = _list.first(self.appends.unflushed, own_connection_id=connection_id, own_name=source)
        return None if row is None else row[1]

    def note_read(self, connection_id: str, read: ListRead, now: datetime) -> None:
        """Note that a list was read to its end, and how far if it can be read incrementally."""
        state = {"problem": read.problem, "held_back": read.held_back, "first_read_at": now}
        if read.marks is None:
            _note_read.run(self.appends.unflushed, connection_id=connection_id, name=read.key, **state)
            return
        marks = {"since": read.marks.since, "newest": read.marks.newest}
        _note_read_until.run(self.appends.unflushed, connection_id=connection_id, name=read.key, **state, **marks)

    def note_problem(self, connection_id: str, source: str, problem: str | None) -> None:
        _note_problem.run(self.appends.unflushed, connection_id=connection_id, name=source, problem=problem)

    def forget_lists(self, connection_id: str, sources: Sequence[str]) -> None:
        """Forget the state of lists; their records are deleted."""
        _forget_lists.run(self.sql, own_connection_id=connection_id, sources=list(sources))

    def resource_problems(self, connection_id: str) -> dict[str, str]:
        """Return why lists cannot be read, or prove no deletion, by list."""
        return dict(_problems.all(self.appends.unflushed, own_connection_id=connection_id))


def _to_snapshot(rows: Sequence[Row], names: Collection[str], most: int) -> Snapshot | None:
    records: dict[str, dict[str, Known]] = {name: {} for name in names}
    lists, count = {}, 0
    for name, external_id, text, flag, place, held_back, newest in rows:
        if external_id is None:
            lists[name] = ListState(bool(flag), text, held_back, Marks(place, newest))
        else:
            records[name][external_id] = Known(text, {}, bool(flag), place)
            count += 1
    return Snapshot(records, lists) if count <= most else None


def _parse(text: str) -> Json:
    data = exact_json.loads(text)
    return data if isinstance(data, dict) else {}
