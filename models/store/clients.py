"""OAuth clients: their sealed secrets, and whether their requests are paused."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import select, update

from models.secrets import Sealed
from models.store.dialect import insert_or_update
from models.store.rows import table_of
from models.tables import ClientRow

table = table_of(ClientRow)


@dataclass(frozen=True, slots=True)
class StoredClient:
    """A client as the database knows it; `secret` is sealed, None where it was never stored."""

    provider: str
    client_id: str
    secret: Sealed | None
    omit_refresh_scope: bool
    rejected_at: datetime | None
    rejected_error: str | None
    probes: int
    paused_until: datetime | None


class Clients:
    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def get(self, provider: str, client_id: str) -> StoredClient | None:
        query = select(table).where(table.c.provider == provider, table.c.client_id == client_id)
        row = self.sql.execute(query).mappings().first()
        return StoredClient(**row) if row else None

    def ensure(self, provider: str, client_id: str) -> None:
        """Makes the client's row, where it is missing."""
        values = {"provider": provider, "client_id": client_id, "omit_refresh_scope": False, "probes": 0}
        self.sql.execute(insert_or_update(self.sql, table, values, {"client_id": client_id}))

    def put_secret(self, provider: str, client_id: str, secret: Sealed) -> None:
        """Keeps a client's secret, also after the settings have forgotten the client."""
        self.ensure(provider, client_id)
        self.change(provider, client_id, secret=secret)

    def change(self, provider: str, client_id: str, **values: object) -> None:
        key = (table.c.provider == provider) & (table.c.client_id == client_id)
        self.sql.execute(update(table).where(key).values(**values))

    def reject(self, provider: str, client_id: str, error: str, now: datetime, until: datetime, probes: int) -> bool:
        """Pauses the client; True for the first to notice."""
        key = (table.c.provider == provider) & (table.c.client_id == client_id)
        first = self.sql.execute(
            update(table).where(key, table.c.rejected_at.is_(None)).values(rejected_at=now, rejected_error=error)
        )
        self.sql.execute(update(table).where(key).values(paused_until=until, probes=probes))
        return first.rowcount == 1

    def take_probe(self, provider: str, client_id: str, now: datetime, until: datetime) -> bool:
        """Lets one caller try a paused client whose pause is over; the others go on waiting until then."""
        statement = update(table).where(
            table.c.provider == provider, table.c.client_id == client_id, table.c.paused_until <= now
        )
        return self.sql.execute(statement.values(paused_until=until)).rowcount == 1

    def recover(self, provider: str, client_id: str) -> bool:
        """Ends the pause; True for the first to notice."""
        key = (table.c.provider == provider) & (table.c.client_id == client_id)
        statement = update(table).where(key, table.c.rejected_at.is_not(None))
        values = {"rejected_at": None, "rejected_error": None, "paused_until": None, "probes": 0}
        return self.sql.execute(statement.values(**values)).rowcount == 1
