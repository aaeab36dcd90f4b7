"""What is due: found by one statement, and claimed for a while by the sweep that saw it first, so that several sweeps
don't send it twice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Integer,
    Select,
    Table,
    any_,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy import Connection as SqlConnection

from models.messaging import messages
from models.store import clients, outbox, refusals, webhooks
from models.store.rows import table_of
from models.store.statement import Statement
from models.store.tables import AuthorizationRow, CallRow, ConnectionRow, CredentialRow, RevocationRow

connections = table_of(ConnectionRow)
credentials = table_of(CredentialRow)
authorizations = table_of(AuthorizationRow)
given_now: BindParameter[Any] = bindparam("now")
given_provider: BindParameter[Any] = bindparam("own_provider")
started: ColumnElement[str] = literal_column("'started'")
one: ColumnElement[int] = literal_column("1")
"""Literals: a partial index is used only if its condition is in the text, and an index is walked to the first row only
if the text says that it is to be one."""


class Work(StrEnum):
    """What a sweep may have to do."""

    held = "held"
    released = "released"
    trials = "trials"
    expiry = "expiry"
    disconnects = "disconnects"
    revocations = "revocations"
    exchanges = "exchanges"
    probes = "probes"
    refreshes = "refreshes"
    syncs = "syncs"
    calls = "calls"
    events = "events"
    webhooks = "webhooks"


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """One kind of due work: the columns of its due time and its claim, and the message that does it."""

    work: Work
    table: Table
    due_at: ColumnElement[Any]
    claimed_until: ColumnElement[Any]
    message: Callable[[str], messages.Message]

    @property
    def queue(self) -> str:
        return self.message("").queue

    def due(self, *only: ColumnElement[bool]) -> Select[Any]:
        """Return the ids of what is due and not claimed, the oldest first: so its partial index is walked, no table."""
        claimable = or_(self.claimed_until.is_(None), self.claimed_until <= given_now)
        return select(self.table.c.id).where(self.due_at <= given_now, claimable, *only).order_by(self.due_at)


def _kind(work: Work, table: Table, prefix: str, message: Callable[[str], messages.Message]) -> Kind:
    return Kind(work, table, table.c[f"{prefix}due_at"], table.c[f"{prefix}claimed_until"], message)


exchanges = _kind(Work.exchanges, authorizations, "", messages.exchange_code)
refreshes = _kind(Work.refreshes, connections, "refresh_", messages.carry_out_refresh)
syncs = _kind(Work.syncs, connections, "sync_", messages.read_connection)
disconnects = _kind(Work.disconnects, connections, "disconnect_", messages.carry_out_disconnect)
revocations = _kind(Work.revocations, table_of(RevocationRow), "", messages.revoke_grant)
calls = _kind(Work.calls, table_of(CallRow), "", messages.call)
kinds = (exchanges, refreshes, syncs, disconnects, revocations, calls)

_expired = (
    select(authorizations.c.id)
    .where(
        authorizations.c.step == started,
        authorizations.c.expires_at <= given_now,
        authorizations.c.due_at.is_(None),
    )
    .order_by(authorizations.c.expires_at)
)
_of_provider = connections.c.provider == given_provider
_is_unresolved = (
    select(credentials.c.connection_id)
    .where(
        credentials.c.connection_id == connections.c.id,
        credentials.c.presented_generation == connections.c.generation,
    )
    .exists()
)
_is_kept_back = (
    select(clients.table.c.client_id)
    .where(
        clients.table.c.provider == connections.c.provider,
        clients.table.c.client_id == connections.c.client_id,
        clients.is_open,
    )
    .exists()
)
_searched: dict[Work, Select[Any]] = {
    Work.held: refusals.unmarked,
    Work.released: refusals.released,
    Work.trials: refusals.due_trials,
    Work.expiry: _expired,
    Work.probes: clients.due_probes,
    Work.events: outbox.waiting,
    Work.webhooks: webhooks.due,
    **{kind.work: kind.due() for kind in kinds},
}
search = Statement(select(*(query.limit(one).scalar_subquery().is_not(None) for query in _searched.values())))
_expire = Statement(
    update(authorizations)
    .where(authorizations.c.id.in_(_expired.limit(bindparam("most", type_=Integer))))
    .values(due_at=given_now)
)


def _claiming(kind: Kind, *only: ColumnElement[bool]) -> Statement:
    """Return the statement that takes up to `most` of a kind until `until`, and returns ids and due times.

    On PostgreSQL a row that is locked is found again where it lies, and not by its id through another index.
    """

    def build(dialect: str) -> Any:
        place = literal_column("ctid") if dialect == "postgresql" else kind.table.c.id
        due = kind.due(*only).with_only_columns(place).limit(bindparam("most", type_=Integer))
        found = due.with_for_update(skip_locked=True)
        is_found = place == any_(func.array(found.scalar_subquery())) if dialect == "postgresql" else place.in_(found)
        taken = update(kind.table).where(is_found).values({kind.claimed_until: bindparam("until")})
        return taken.returning(kind.table.c.id, kind.due_at)

    return Statement(build)


_claims = {kind: _claiming(kind) for kind in kinds}
_claim_unresolved = _claiming(refreshes, _of_provider, _is_unresolved)
_claim_others = _claiming(refreshes, _of_provider, ~_is_kept_back, ~_is_unresolved)
_count_on_their_way = Statement(
    select(func.count()).where(
        refreshes.due_at <= given_now,
        refreshes.claimed_until > given_now,
        _of_provider,
        ~_is_unresolved,
        ~_is_kept_back,
    )
)


class Due:
    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def look(self, now: datetime) -> frozenset[Work]:
        """Return what there is to do: one statement that reads, however much or little that is."""
        row = search.first(self.sql, now=now) or ()
        return frozenset(work for work, is_there in zip(_searched, row, strict=True) if is_there)

    def claim(self, kind: Kind, now: datetime, until: datetime, limit: int) -> Sequence[messages.Message]:
        """Takes what is due, the oldest first, and what was claimed so long ago that the claim ran out."""
        return self._claim(kind, _claims[kind], limit, now=now, until=until)

    def claim_refreshes(
        self, provider: str, now: datetime, until: datetime, most: int, room: int
    ) -> Sequence[messages.Message]:
        """Refreshes of one provider, `most` on their way at a time; while a client's breaker is open, its stay in line.

        Before them all goes what was presented already, as much as there is `room` for, also behind an open breaker:
        it needs no budget to be looked into, and may have little time.
        """
        values = {"now": now, "until": until, "own_provider": provider}
        due = [*self._claim(refreshes, _claim_unresolved, room, **values)]
        on_their_way = _count_on_their_way.scalar(self.sql, now=now, own_provider=provider)
        free = min(most - on_their_way, room - len(due))
        return [*due, *self._claim(refreshes, _claim_others, free, **values)]

    def _claim(self, kind: Kind, statement: Statement, limit: int, **values: object) -> Sequence[messages.Message]:
        if limit <= 0:
            return []
        rows = statement.all(self.sql, most=limit, **values)
        return [kind.message(row[0]) for row in sorted(rows, key=lambda row: row[1])]

    def void_claims(self, now: datetime) -> int:
        """Give every claim back, after the queue with the messages was lost or emptied.

        What is claimed is due: so only what is due is read, by its index, and not every connection.
        """
        freed = clients.Clients(self.sql).void_claims() + webhooks.Webhooks(self.sql).void_claims()
        for kind in kinds:
            statement = update(kind.table).where(kind.due_at <= now, kind.claimed_until.is_not(None))
            freed += self.sql.execute(statement.values({kind.claimed_until: None})).rowcount
        return freed

    def give_back(self, unsent: Sequence[messages.Message]) -> None:
        """Takes back the claims of messages that did not leave: they are due as they were."""
        if any(message.actor == "probe_client" for message in unsent):
            clients.Clients(self.sql).void_claims()
        if any(message.actor == "deliver_webhooks" for message in unsent):
            webhooks.Webhooks(self.sql).void_claims()
        for kind in kinds:
            actor = kind.message("").actor
            ids = [id_ for message in unsent if message.actor == actor for id_ in message.kwargs.values()]
            if ids:
                self.sql.execute(update(kind.table).where(kind.table.c.id.in_(ids)).values({kind.claimed_until: None}))

    def expire_authorizations(self, now: datetime, limit: int) -> int:
        """Makes authorizations whose time ran out at the provider due, so that an actor ends them as expired."""
        return _expire.run(self.sql, now=now, most=limit)
