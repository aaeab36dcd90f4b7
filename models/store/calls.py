"""Calls as jobs: added once for each idempotency key, found, locked, saved, and their bodies erased."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import bindparam, delete, func, select, update

from models.gateway.call import CallStatus, StoredCall
from models.store.dialect import insert_of
from models.store.rows import names_of, table_of
from models.store.statement import Statement
from models.store.tables import CallRow

table = table_of(CallRow)
names = names_of(StoredCall)
columns = [table.c[name] for name in names]
_of_id = table.c.id == bindparam("own_id")
_get = Statement(select(*columns).where(_of_id))
_lock = Statement(select(*columns).where(_of_id).with_for_update())
_by_key = Statement(
    select(*columns).where(
        table.c.connection_id == bindparam("own_connection_id"), table.c.idempotency_key == bindparam("own_key")
    )
)
_insert = Statement(
    lambda dialect: (
        insert_of(dialect, table).inline().on_conflict_do_nothing(index_elements=["connection_id", "idempotency_key"])
    ),
    names,
)
_save = Statement(update(table).where(_of_id), (*names, "claimed_until"))
_hasten = Statement(update(table).where(_of_id), ("claimed_until",))


class Calls:
    """The calls of one transaction's database."""

    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def add(self, call: StoredCall) -> bool:
        """Add it; False if its connection has one with its idempotency key."""
        return _insert.run(self.sql, **_values(call)) == 1

    def get(self, call_id: str) -> StoredCall | None:
        return _one(_get.first(self.sql, own_id=call_id))

    def lock(self, call_id: str) -> StoredCall | None:
        """Return the call, no one else writing it until this transaction ends; its connection is locked before it."""
        return _one(_lock.first(self.sql, own_id=call_id))

    def by_key(self, connection_id: str, idempotency_key: str) -> StoredCall | None:
        return _one(_by_key.first(self.sql, own_connection_id=connection_id, own_key=idempotency_key))

    def save(self, call: StoredCall) -> None:
        """Write the whole call; the caller has locked its row."""
        _save.run(self.sql, own_id=call.id, **_values(call), claimed_until=None)

    def connection_of(self, call_id: str) -> str | None:
        """Return the id of a call's connection; None if there is no such call."""
        found: str | None = self.sql.execute(select(table.c.connection_id).where(table.c.id == call_id)).scalar()
        return found

    def hasten(self, call_id: str) -> None:
        """Give its claim back, so that the next sweep sends it if it is due; what waits until later still does."""
        _hasten.run(self.sql, own_id=call_id, claimed_until=None)

    def count_unknown(self, since: datetime, most: int) -> int:
        """Count the calls from then on whose answer was lost, among the newest `most`."""
        newest = (
            select(table.c.status).where(table.c.created_at >= since).order_by(table.c.created_at.desc()).limit(most)
        )
        status = newest.subquery().c.status
        return self.sql.execute(select(func.count()).where(status == CallStatus.unknown.value)).scalar_one()

    def begun_since(self, connection_id: str, since: datetime) -> dict[str, int]:
        """Return how many requests were made for each of a connection's calls from then on, of those that made any."""
        query = select(table.c.id, table.c.attempts).where(
            table.c.connection_id == connection_id, table.c.created_at >= since, table.c.attempts > 0
        )
        return {str(row.id): int(row.attempts) for row in self.sql.execute(query)}

    def erase(self, connection_id: str) -> int:
        """Erase the bodies of a connection's calls; return of how many."""
        kept = (table.c.connection_id == connection_id) & table.c.bodies_until.is_not(None)
        return self.sql.execute(update(table).where(kept).values(**_erased)).rowcount

    def erase_bodies(self, now: datetime, limit: int) -> int:
        """Erase up to `limit` calls' bodies whose time is over; return of how many."""
        old = select(table.c.id).where(table.c.bodies_until <= now).order_by(table.c.bodies_until).limit(limit)
        return self.sql.execute(update(table).where(table.c.id.in_(old)).values(**_erased)).rowcount

    def prune(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` calls from before then."""
        old = select(table.c.id).where(table.c.created_at < before).order_by(table.c.created_at).limit(limit)
        return self.sql.execute(delete(table).where(table.c.id.in_(old))).rowcount


_erased = {"request": None, "answer": None, "bodies_until": None}


def _values(call: StoredCall) -> dict[str, object]:
    return {name: getattr(call, name) for name in names} | {"status": call.status.value}


def _one(row: Iterable[Any] | None) -> StoredCall | None:
    if row is None:
        return None
    values = dict(zip(names, row, strict=True))
    return StoredCall(**values | {"status": CallStatus(values["status"])})
