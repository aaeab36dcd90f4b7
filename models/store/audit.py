"""The audit: lines are inserted with what they record, and chained later by one scheduler at a time.

A database role of a process needs INSERT on `audit` and nothing else, for which reason an insert returns nothing. The
scheduler's needs SELECT, UPDATE of the columns `day`, `number`, `previous` and `hash`, and DELETE for pruning; and
SELECT and INSERT on `audit_day`.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import RowMapping, Select, bindparam, delete, func, insert, select, text, tuple_, update

from models.audit.chain import Day, End, Line
from models.audit.entry import Entry, bound_detail, bound_text, entry_of
from models.journal import Verb
from models.store.rows import names_of, table_of
from models.store.statement import Statement
from models.store.tables import AuditDayRow, AuditRow, AuthorizationRow, ConnectionRow

table = table_of(AuditRow)
days = table_of(AuditDayRow)
columns = [table.c[name] for name in names_of(Line)]
lock_number = zlib.crc32(b"breezesync.audit")
batch = 1000

Wanted = Mapping[str, str | None]
"""The value that a line has to have in a column, such as `user_id`; None for any."""


class Audit:
    """The audit in one transaction's database; `actor` is who writes it if an entry names no one else."""

    def __init__(self, sql: SqlConnection, actor: str) -> None:
        self.sql = sql
        self.actor = actor

    def add(self, entry: Entry, now: datetime) -> None:
        """Write a line in the transaction that does what it says."""
        values: dict[str, Any] = {name: getattr(entry, name) for name in names_of(Entry)}
        values["detail"] = bound_detail(entry.detail)
        values |= {"at": now, "actor": entry.actor or self.actor, "action": entry.action.value}
        values["address"] = None if entry.address is None else bound_text(entry.address)
        found = _found_of_owner(entry)
        kept = {name: value for name, value in values.items() if name not in found}
        _insert(bool(entry.connection_id), found).run(
            self.sql, owner_id=entry.connection_id or entry.authorization_id, **kept
        )

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
        query = select(*columns).where(table.c.number.is_(None)).order_by(table.c.id).limit(limit)
        return [_to_line(row) for row in self.sql.execute(query).mappings()]

    def count_waiting(self) -> int:
        query = select(func.count()).select_from(table).where(table.c.number.is_(None))
        return int(self.sql.execute(query).scalar_one())

    def end(self) -> End:
        """Return where the chain ends."""
        newest = (table.c.day.desc(), table.c.number.desc())
        query = select(table.c.day, table.c.number, table.c.hash).where(table.c.number.is_not(None))
        row = self.sql.execute(query.order_by(*newest).limit(1)).first()
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
        row = self.sql.execute(select(days).order_by(days.c.day.desc()).limit(1)).mappings().first()
        return None if row is None else Day(**row)

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


def _found_of_owner(entry: Entry) -> tuple[str, ...]:
    """Return the columns that are read from the entry's connection, or else from its authorization."""
    if entry.provider is not None or not (entry.connection_id or entry.authorization_id):
        return ()
    return ("provider", "user_id") if entry.user_id is None else ("provider",)


@cache
def _insert(of_connection: bool, found: tuple[str, ...]) -> Statement:
    """Return the statement for a line, of which the columns `found` are read from the row of the line's owner."""
    owner = table_of(ConnectionRow if of_connection else AuthorizationRow)
    of_owner = owner.c.id == bindparam("owner_id")
    read = {name: select(owner.c[name]).where(of_owner).scalar_subquery() for name in found}
    given = (*names_of(Entry), "at")
    statement = insert(table).inline()
    return Statement(statement.values(**read) if read else statement, [name for name in given if name not in read])


def _choose(wanted: Wanted, since: datetime | None) -> Select[Any]:
    conditions = [table.c[name] == value for name, value in wanted.items() if value is not None]
    return select(*columns).where(*conditions, *(() if since is None else (table.c.at >= since,)))


def _to_line(row: RowMapping) -> Line:
    return Line(**row)
