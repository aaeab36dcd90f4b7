"""OAuth clients: their sealed secrets, and whether their requests are paused."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy import Connection as SqlConnection

from models.crypto.secrets import Sealed
from models.store.dialect import insert_or_update
from models.store.rows import table_of
from models.store.tables import ClientRow

table = table_of(ClientRow)


@dataclass(frozen=True, slots=True)
class StoredClient:
    """A client as the database knows it; `secret` is sealed, None where it was never stored.

    From `rejected_at` on it is refused: nothing leaves before `paused_until`, and then one request at a time, the
    one on its way having until `probing_until`.
    """

    provider: str
    client_id: str
    secret: Sealed | None = None
    omit_refresh_scope: bool = False
    rejected_at: datetime | None = None
    rejected_error: str | None = None
    probes: int = 0
    paused_until: datetime | None = None
    probing_until: datetime | None = None

    @property
    def is_rejected(self) -> bool:
        return self.rejected_at is not None


class Clients:
    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def get(self, provider: str, client_id: str) -> StoredClient | None:
        row = self.sql.execute(select(table).where(_is(provider, client_id))).mappings().first()
        return StoredClient(**row) if row else None

    def lock(self, provider: str, client_id: str) -> StoredClient:
        """The client, made where it is missing, nobody else changing it until this transaction ends."""
        values = {"provider": provider, "client_id": client_id, "omit_refresh_scope": False, "probes": 0}
        self.sql.execute(insert_or_update(self.sql, table, values, {"client_id": client_id}))
        return StoredClient(**self.sql.execute(select(table).where(_is(provider, client_id))).mappings().one())

    def put_secret(self, provider: str, client_id: str, secret: Sealed) -> None:
        """Keeps a client's secret, also after the settings have forgotten the client."""
        self.lock(provider, client_id)
        self.change(provider, client_id, secret=secret)

    def omit_refresh_scope(self, provider: str, client_id: str) -> None:
        """From now on this client's refreshes name no scope."""
        self.lock(provider, client_id)
        self.change(provider, client_id, omit_refresh_scope=True)

    def reject(self, client: StoredClient, error: str, now: datetime, until: datetime) -> None:
        """Pauses the client, which the caller has locked."""
        self.change(
            client.provider,
            client.client_id,
            rejected_at=client.rejected_at or now,
            rejected_error=error,
            probes=client.probes + 1,
            paused_until=until,
            probing_until=None,
        )

    def take_probe(self, provider: str, client_id: str, now: datetime, until: datetime) -> bool:
        """Lets one caller try a rejected client whose pause is over; until then no other."""
        statement = update(table).where(_is(provider, client_id), *_may_be_probed(now))
        return self.sql.execute(statement.values(probing_until=until)).rowcount == 1

    def probeable(self, provider: str, now: datetime) -> list[str]:
        """The rejected clients that one request may try now."""
        query = select(table.c.client_id).where(table.c.provider == provider, *_may_be_probed(now))
        return list(self.sql.execute(query).scalars())

    def recover(self, provider: str, client_id: str) -> bool:
        """Ends the pause; True for the first to notice."""
        statement = update(table).where(_is(provider, client_id), table.c.rejected_at.is_not(None))
        values = {"rejected_at": None, "rejected_error": None, "paused_until": None, "probing_until": None, "probes": 0}
        return self.sql.execute(statement.values(**values)).rowcount == 1

    def change(self, provider: str, client_id: str, **values: object) -> None:
        self.sql.execute(update(table).where(_is(provider, client_id)).values(**values))


def _is(provider: str, client_id: str) -> ColumnElement[bool]:
    return (table.c.provider == provider) & (table.c.client_id == client_id)


def _may_be_probed(now: datetime) -> tuple[ColumnElement[bool], ...]:
    return (
        table.c.rejected_at.is_not(None),
        table.c.paused_until <= now,
        or_(table.c.probing_until.is_(None), table.c.probing_until <= now),
    )
