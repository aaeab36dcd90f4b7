"""What is due: claimed for a while by the sweep that saw it first, so that several sweeps don't send it twice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Table, func, or_, select, update
from sqlalchemy import Connection as SqlConnection

from models.messaging import messages
from models.store.clients import Clients
from models.store.clients import is_open as client_is_open
from models.store.clients import table as clients
from models.store.rows import table_of
from models.store.tables import AuthorizationRow, ConnectionRow, CredentialRow, RevocationRow

connections = table_of(ConnectionRow)
credentials = table_of(CredentialRow)
authorizations = table_of(AuthorizationRow)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of due work: the columns of its due time and its claim, and the message that does it."""

    table: Table
    due_at: ColumnElement[Any]
    claimed_until: ColumnElement[Any]
    message: Callable[[str], messages.Message]

    @property
    def queue(self) -> str:
        return self.message("").queue


exchanges = Kind(authorizations, authorizations.c.due_at, authorizations.c.claimed_until, messages.exchange_code)
refreshes = Kind(
    connections, connections.c.refresh_due_at, connections.c.refresh_claimed_until, messages.carry_out_refresh
)
syncs = Kind(connections, connections.c.sync_due_at, connections.c.sync_claimed_until, messages.read_connection)
disconnects = Kind(
    connections, connections.c.disconnect_due_at, connections.c.disconnect_claimed_until, messages.carry_out_disconnect
)
revocations = Kind(
    table_of(RevocationRow),
    table_of(RevocationRow).c.due_at,
    table_of(RevocationRow).c.claimed_until,
    messages.revoke_grant,
)
kinds = (exchanges, refreshes, syncs, disconnects, revocations)


class Due:
    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def claim(
        self, kind: Kind, now: datetime, until: datetime, limit: int, *only: ColumnElement[bool]
    ) -> Sequence[messages.Message]:
        """Takes what is due, the oldest first, and what was claimed so long ago that the claim ran out."""
        if limit <= 0:
            return []
        claimable = or_(kind.claimed_until.is_(None), kind.claimed_until <= now)
        due = (
            select(kind.table.c.id)
            .where(kind.due_at <= now, claimable, *only)
            .order_by(kind.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        statement = update(kind.table).where(kind.table.c.id.in_(due)).values({kind.claimed_until: until})
        rows = self.sql.execute(statement.returning(kind.table.c.id, kind.due_at)).all()
        return [kind.message(row[0]) for row in sorted(rows, key=lambda row: row[1])]

    def claim_refreshes(
        self, provider: str, now: datetime, until: datetime, most: int, room: int
    ) -> Sequence[messages.Message]:
        """Refreshes of one provider, `most` on their way at a time; while a client's breaker is open, its stay in line.

        Before them all goes what was presented already, as much as there is `room` for, also behind an open breaker:
        it needs no budget to be looked into, and may have little time.
        """
        of_provider = connections.c.provider == provider
        unresolved = (
            select(credentials.c.connection_id)
            .where(
                credentials.c.connection_id == connections.c.id,
                credentials.c.presented_generation == connections.c.generation,
            )
            .exists()
        )
        kept_back = (
            select(clients.c.client_id)
            .where(
                clients.c.provider == connections.c.provider,
                clients.c.client_id == connections.c.client_id,
                client_is_open,
            )
            .exists()
        )
        due = [*self.claim(refreshes, now, until, room, of_provider, unresolved)]
        on_their_way = self._count_claimed(now, of_provider & ~unresolved & ~kept_back)
        free = min(most - on_their_way, room - len(due))
        return [*due, *self.claim(refreshes, now, until, free, of_provider, ~kept_back, ~unresolved)]

    def _count_claimed(self, now: datetime, of: ColumnElement[bool]) -> int:
        """How many refreshes are on their way."""
        query = select(func.count()).where(refreshes.due_at <= now, refreshes.claimed_until > now, of)
        return self.sql.execute(query).scalar_one()

    def void_claims(self) -> int:
        """Give every claim back, after the queue with the messages was lost or emptied."""
        freed = Clients(self.sql).void_claims()
        for kind in kinds:
            statement = update(kind.table).where(kind.claimed_until.is_not(None))
            freed += self.sql.execute(statement.values({kind.claimed_until: None})).rowcount
        return freed

    def give_back(self, unsent: Sequence[messages.Message]) -> None:
        """Takes back the claims of messages that did not leave: they are due as they were."""
        if any(message.actor == "probe_client" for message in unsent):
            Clients(self.sql).void_claims()
        for kind in kinds:
            actor = kind.message("").actor
            ids = [id_ for message in unsent if message.actor == actor for id_ in message.kwargs.values()]
            if ids:
                self.sql.execute(update(kind.table).where(kind.table.c.id.in_(ids)).values({kind.claimed_until: None}))

    def expire_authorizations(self, now: datetime, limit: int) -> Sequence[str]:
        """Makes authorizations whose time ran out at the provider due, so that an actor ends them as expired."""
        late = (
            select(authorizations.c.id)
            .where(
                authorizations.c.step == "started",
                authorizations.c.expires_at <= now,
                authorizations.c.due_at.is_(None),
            )
            .limit(limit)
        )
        statement = update(authorizations).where(authorizations.c.id.in_(late)).values(due_at=now)
        return list(self.sql.execute(statement.returning(authorizations.c.id)).scalars())
