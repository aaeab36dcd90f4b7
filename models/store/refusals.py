"""Refused connections whose end is not certain yet, or was not long ago; and the holds of their clients."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, bindparam, case, delete, func, select, update
from sqlalchemy import Connection as SqlConnection

from models.oauth.client import StoredClient
from models.oauth.connection import Connection, Status
from models.oauth.hold import Hold, Limits, Refusal, Situation, begin_trial
from models.store import clients
from models.store.connections import can_refresh
from models.store.dialect import insert_or_update
from models.store.rows import names_of, table_of
from models.store.statement import Statement
from models.store.tables import ConnectionRow, HoldRow, RefusalRow

table = table_of(RefusalRow)
holds = table_of(HoldRow)
connections = table_of(ConnectionRow)
columns = [table.c[name] for name in names_of(Refusal)]
_standing = Statement(
    select(*clients.columns, *columns)
    .select_from(clients.table)
    .outerjoin(table, table.c.connection_id == bindparam("own_id"))
    .where(clients.of_client)
)
_get = Statement(select(*columns).where(table.c.connection_id == bindparam("own_id")))
most_settled = 500
_of_active = (
    select(table.c.connection_id)
    .join(connections, connections.c.id == table.c.connection_id)
    .where(connections.c.status == Status.active.value)
)
unmarked = _of_active.where(table.c.is_held, connections.c.problem.is_(None) | (connections.c.problem != "held"))
"""Held refusals whose connections don't say so yet."""
released = _of_active.where(table.c.is_released)
due_trials = select(holds.c.provider).where(holds.c.next_trial_at <= bindparam("now"))
"""The rule of `begin_trial`."""


class Refusals:
    """Refusals and the hold of one client are written only by who has locked the client, or skips what is locked."""

    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def get(self, connection_id: str) -> Refusal | None:
        row = _get.first(self.sql, own_id=connection_id)
        return Refusal(*row) if row else None

    def standing(self, connection: Connection) -> tuple[StoredClient | None, Refusal | None]:
        """Return the client of a connection, and the connection's refusal if it has one."""
        own = {"own_id": connection.id, "own_provider": connection.provider, "own_client_id": connection.client_id}
        row = _standing.first(self.sql, **own)
        if row is None:
            return None, self.get(connection.id)
        of_client, of_refusal = row[: len(clients.columns)], row[len(clients.columns) :]
        return clients.to_client(of_client), None if of_refusal[0] is None else Refusal(*of_refusal)

    def put(self, refusal: Refusal) -> None:
        values = {name: getattr(refusal, name) for name in names_of(Refusal)} | {"evidence": dict(refusal.evidence)}
        self.sql.execute(insert_or_update(self.sql, table, values, values))

    def drop(self, connection_id: str) -> None:
        """Forget a connection's refusal."""
        self.sql.execute(delete(table).where(table.c.connection_id == connection_id))

    def situation(self, refusal: Refusal, limits: Limits, wait: timedelta) -> Situation:
        """Return what a new refusal is judged by."""
        earlier = self.get(refusal.connection_id)
        since = refusal.refused_at - limits.window
        others = (table.c.connection_id != refusal.connection_id) & (table.c.refused_at > since) & ~table.c.is_released
        column = connections.c
        active = (column.provider == refusal.provider) & (column.client_id == refusal.client_id)
        return Situation(
            is_held=self.hold(refusal.provider, refusal.client_id) is not None,
            refused=self._count(table, _of(refusal.provider, refusal.client_id) & others),
            active=self._count(connections, active & (column.status == Status.active.value)),
            earlier=earlier if earlier is not None and earlier.generation == refusal.generation else None,
            limits=limits,
            wait=wait,
        )

    def hold(self, provider: str, client_id: str) -> Hold | None:
        row = self.sql.execute(select(holds).where(_hold_of(provider, client_id))).mappings().first()
        return Hold(**row) if row else None

    def holds(self, provider: str | None = None) -> Sequence[Hold]:
        query = select(holds).order_by(holds.c.provider, holds.c.client_id)
        if provider is not None:
            query = query.where(holds.c.provider == provider)
        return [Hold(**row) for row in self.sql.execute(query).mappings()]

    def open(self, hold: Hold) -> int:
        """Save the hold, and hold every refusal that waits; return how many there are."""
        values = {name: getattr(hold, name) for name in names_of(Hold)}
        self.sql.execute(insert_or_update(self.sql, holds, values, values))
        waiting = _of(hold.provider, hold.client_id) & table.c.ended_at.is_(None) & ~table.c.is_released
        return self.sql.execute(update(table).where(waiting).values(is_held=True, due_at=None)).rowcount

    def end_hold(self, provider: str, client_id: str) -> int:
        """Delete the hold and release every held refusal; return how many there were."""
        self.sql.execute(delete(holds).where(_hold_of(provider, client_id)))
        held = _of(provider, client_id) & table.c.is_held
        return self.sql.execute(update(table).where(held).values(is_held=False, is_released=True)).rowcount

    def held(self, provider: str, client_id: str, limit: int) -> Sequence[Refusal]:
        """Return held refusals, the oldest first."""
        query = select(*columns).where(_of(provider, client_id), table.c.is_held).order_by(table.c.refused_at)
        return [Refusal(**row) for row in self.sql.execute(query.limit(limit)).mappings()]

    def count_held(self, provider: str, client_id: str) -> int:
        return self._count(table, _of(provider, client_id) & table.c.is_held)

    def count_refused(self, provider: str, client_id: str, since: datetime) -> int:
        """Count the refusals since then, ended, waiting or held."""
        return self._count(table, _of(provider, client_id) & (table.c.refused_at > since) & ~table.c.is_released)

    def settle(self, now: datetime) -> None:
        """Mark the connections of held refusals, and make those of released ones due. The sweep does it bit by bit.

        Race: a flow has locked a connection and waits for its client, whose lock a hold is opened and ended under. So
        that is done without touching connections, and here what is locked is left for the next time.
        """
        if to_mark := self._choose(unmarked):
            self._change(to_mark, problem="held", refresh_due_at=None)
        if to_free := self._choose(released):
            self._make_due(to_free, now, problem=None)
            self.sql.execute(delete(table).where(table.c.connection_id.in_(to_free)))

    def begin_trials(self, provider: str, now: datetime) -> None:
        """Make one held connection of each hold due, if a trial is (see `begin_trial`): another one each time."""
        for hold in self.holds(provider):
            begun = begin_trial(hold, now)
            if begun is None:
                continue
            # Race: two sweeps find the trial due, or the hold is ended just now. Who ends it has locked it before its
            # refusals: to wait here, with refusals locked, would be a deadlock.
            own = _hold_of(hold.provider, hold.client_id) & (holds.c.next_trial_at == hold.next_trial_at)
            locking = select(holds.c.provider).where(own).with_for_update(skip_locked=True)
            if self.sql.execute(locking).first() is None:
                continue
            # One whose connection has ended meanwhile would be chosen again and again.
            triable = _of_active.where(_of(hold.provider, hold.client_id), table.c.is_held)
            count = self.sql.execute(select(func.count()).select_from(triable.subquery())).scalar_one()
            if not count:
                continue
            nth = self.sql.execute(
                triable.order_by(table.c.connection_id).offset(begun.trials % count).limit(1)
            ).scalar()
            chosen = self._choose(_of_active.where(table.c.connection_id == nth))
            if chosen:
                values = {"trials": begun.trials, "next_trial_at": begun.next_trial_at}
                self.sql.execute(update(holds).where(own).values(**values))
                self._make_due(chosen, now)

    def prune(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` refusals that ended their connections before then."""
        old = select(table.c.connection_id).where(table.c.ended_at < before).limit(limit)
        return self.sql.execute(delete(table).where(table.c.connection_id.in_(old))).rowcount

    def _choose(self, of: Select[Any]) -> list[str]:
        """Lock refusals with their connections, but none that is locked already; return the connections' ids."""
        return list(self.sql.execute(of.limit(most_settled).with_for_update(skip_locked=True)).scalars())

    def _make_due(self, ids: list[str], now: datetime, **values: Any) -> None:
        """Make a refresh of each connection due, or of one that has no refresh token a sync."""
        column = connections.c
        is_refreshable = column.id.in_(can_refresh)
        self._change(
            ids,
            refresh_due_at=case((is_refreshable, now), else_=column.refresh_due_at),
            sync_due_at=case((is_refreshable, column.sync_due_at), else_=now),
            sync_claimed_until=case((is_refreshable, column.sync_claimed_until), else_=None),
            **values,
        )

    def _change(self, ids: list[str], **values: Any) -> None:
        statement = update(connections).where(connections.c.id.in_(ids))
        self.sql.execute(statement.values(refresh_claimed_until=None, **values))

    def _count(self, of: Table, condition: ColumnElement[bool]) -> int:
        return int(self.sql.execute(select(func.count()).select_from(of).where(condition)).scalar_one())


def _of(provider: str, client_id: str) -> ColumnElement[bool]:
    return (table.c.provider == provider) & (table.c.client_id == client_id)


def _hold_of(provider: str, client_id: str) -> ColumnElement[bool]:
    return (holds.c.provider == provider) & (holds.c.client_id == client_id)
