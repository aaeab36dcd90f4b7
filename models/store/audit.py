"""The audit: lines are inserted with what they record, and chained later by one scheduler at a time.

A database role of a process needs INSERT on `audit` and nothing else, for which reason an insert returns nothing. The
scheduler's needs SELECT, UPDATE of the columns `day`, `number`, `previous` and `hash`, and DELETE for pruning; and
SELECT and INSERT on `audit_day`.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    RowMapping,
    Select,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy import Connection as SqlConnection

from models.audit.chain import Day, End, Line
from models.audit.entry import Entry, bound_detail, bound_text, entry_of
from models.journal import Verb
from models.store.appends import Appends
from models.store.rows import names_of, table_of
from models.store.statement import InsertMany, Statement
from models.store.tables import AuditDayRow, AuditRow, AuthorizationRow, ConnectionRow

table = table_of(AuditRow)
days = table_of(AuditDayRow)
connections = table_of(ConnectionRow)
attempts = table_of(AuthorizationRow)
line_names = names_of(Line)
columns = [table.c[name] for name in line_names]
lock_number = zlib.crc32(b"breezesync.audit")
batch = 1000

Wanted = Mapping[str, str | None]
"""The value that a line has to have in a column, such as `user_id`; None for any."""


def _find_owner(given: Any) -> dict[str, ColumnElement[Any]]:
    """Return provider and user of a line: if no provider is given, those of its connection, or else authorization."""

    def of_owner(name: str) -> ColumnElement[Any]:
        of_connection = select(connections.c[name]).where(connections.c.id == given.connection_id).scalar_subquery()
        of_attempt = select(attempts.c[name]).where(attempts.c.id == given.authorization_id).scalar_subquery()
        return case((given.connection_id.is_not(None), of_connection), else_=of_attempt)

    is_complete = given.provider.is_not(None) | given.user_id.is_not(None)
    return {
        "provider": func.coalesce(given.provider, of_owner("provider")),
        "user_id": case((is_complete, given.user_id), else_=of_owner("user_id")),
    }


_insert = InsertMany(table, (*names_of(Entry), "at"), derive=_find_owner)
_insert_known = InsertMany(table, (*names_of(Entry), "at"))
"""For lines that name provider and user, or are about no one's: it reads no other table, which not every role may."""

# What each scheduler asks every few seconds.
_waiting = Statement(
    select(*columns).where(table.c.number.is_(None)).order_by(table.c.id).limit(bindparam("most", type_=Integer()))
)
_end = Statement(
    select(table.c.day, table.c.number, table.c.hash)
    .where(table.c.number.is_not(None))
    .order_by(table.c.day.desc(), table.c.number.desc())
    .limit(1)
)
_newest_day = Statement(select(*(days.c[name] for name in names_of(Day))).order_by(days.c.day.desc()).limit(1))


class Audit:
    """The audit in one transaction's database; `actor` is who writes it if an entry names no one else."""

    def __init__(self, appends: Appends, actor: str) -> None:
        self.appends = appends
        self.actor = actor

    @property
    def sql(self) -> SqlConnection:
        return self.appends.sql

    def add(self, entry: Entry, now: datetime) -> None:
        """Write a line in the transaction that does what it says."""
        values: dict[str, Any] = {name: getattr(entry, name) for name in names_of(Entry)}
        values["detail"] = bound_detail(entry.detail)
        values |= {"at": now, "actor": entry.actor or self.actor, "action": entry.action.value}
        values["address"] = None if entry.address is None else bound_text(entry.address)
        is_about_no_one = entry.connection_id is None and entry.authorization_id is None
        is_known = is_about_no_one or (entry.provider is not None and entry.user_id is not None)
        self.appends.add(_insert_known if is_known else _insert, [values])

    def follow(self, subject: str, verb: Verb, evidence: Mapping[str, object], now: datetime) -> None:
        """Write the line that goes with a decision about a connection or an authorization, if one does."""
        entry = entry_of(subject, verb, evidence)
        if entry is not None:
            self.add(entry, now)

    def lock(self) -> bool:
        """Become the only one who chains, until the transaction ends; return False if there is another."""
        if self.sql.dialect.name != "postgresql":
            return True
        return bool(self.sql.execute(select(func.pg_try_advisory_xact_lock(lock_number))).scalar_one())

    def waiting(self, limit: int) -> Sequence[Line]:
        """Return lines that are not chained yet, the oldest first."""
        return [Line(**dict(zip(line_names, row, strict=True))) for row in _waiting.all(self.sql, most=limit)]

    def count_waiting(self) -> int:
        query = select(func.count()).select_from(table).where(table.c.number.is_(None))
        return int(self.sql.execute(query).scalar_one())

    def end(self) -> End:
        """Return where the chain ends."""
        row = _end.first(self.sql)
        if row is not None:
            return End(*row)
        closed = self.newest_day()
        return End() if closed is None else End(closed.day, closed.count, closed.head)

    def chain(self, lines: Sequence[Line]) -> None:
        """Save the places that lines have got in the chain."""
        if not lines:
            return
        places = ("day", "number", "previous", "hash")
        # A line that has a place never gets another one, whoever else chains.
        statement = update(table).where(table.c.id == bindparam("own_id"), table.c.number.is_(None))
        values = [{"own_id": line.id} | {f"new_{name}": getattr(line, name) for name in places} for line in lines]
        self.sql.execute(statement.values({name: bindparam(f"new_{name}") for name in places}), values)

    def newest_day(self) -> Day | None:
        """Return the newest closed day."""
        row = _newest_day.first(self.sql)
        return None if row is None else Day(*row)

    def days(self) -> Sequence[Day]:
        """Return the closed days in their order."""
        return [Day(**row) for row in self.sql.execute(select(days).order_by(days.c.day)).mappings()]

    def close(self, day: Day) -> None:
        self.sql.execute(insert(days).values(day=day.day, count=day.count, head=day.head))

    def fix_snapshot(self) -> None:
        """Show every further query of this transaction the database as it is now; it must come before all of them."""
        if self.sql.dialect.name == "postgresql":
            self.sql.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))

    def chained(self, start: date | None) -> Iterator[Line]:
        """Yield the chained lines from a day on, in the chain's order."""
        place = tuple_(table.c.day, table.c.number)
        query = select(*columns).where(table.c.number.is_not(None)).order_by(table.c.day, table.c.number).limit(batch)
        if start is not None:
            query = query.where(table.c.day >= start)
        found = [_to_line(row) for row in self.sql.execute(query).mappings()]
        while found:
            yield from found
            after = tuple_(bindparam("day", found[-1].day, table.c.day.type), found[-1].number)
            found = [_to_line(row) for row in self.sql.execute(query.where(place > after)).mappings()]

    def newest(self, wanted: Wanted, since: datetime | None, limit: int) -> Sequence[Line]:
        """Return the newest `limit` lines, oldest first; of those since a time, if there is one."""
        query = _choose(wanted, since).order_by(table.c.id.desc()).limit(limit)
        return [_to_line(row) for row in reversed(self.sql.execute(query).mappings().all())]

    def after(self, wanted: Wanted, since: datetime | None, line_id: int, limit: int = batch) -> Sequence[Line]:
        """Return the first `limit` lines after one, oldest first."""
        query = _choose(wanted, since).where(table.c.id > line_id).order_by(table.c.id).limit(limit)
        return [_to_line(row) for row in self.sql.execute(query).mappings()]

    def prune(self, before: date, limit: int) -> int:
        """Delete up to `limit` lines of closed days before that day, the oldest first; the days' own records stay."""
        is_old = (table.c.day < before) & table.c.day.in_(select(days.c.day))
        chosen = select(table.c.id).where(is_old).order_by(table.c.day, table.c.number).limit(limit)
        return self.sql.execute(delete(table).where(table.c.id.in_(chosen))).rowcount


def _choose(wanted: Wanted, since: datetime | None) -> Select[Any]:
    conditions = [table.c[name] == value for name, value in wanted.items() if value is not None]
    return select(*columns).where(*conditions, *(() if since is None else (table.c.at >= since,)))


def _to_line(row: RowMapping) -> Line:
    return Line(**row)
