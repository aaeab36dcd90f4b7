"""OAuth clients: their sealed secrets, and whether their requests are paused."""

from datetime import datetime

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy import Connection as SqlConnection

from models.oauth.client import StoredClient
from models.store.dialect import insert_or_update
from models.store.rows import names_of, table_of
from models.store.tables import ClientRow

table = table_of(ClientRow)


class Clients:
    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def get(self, provider: str, client_id: str) -> StoredClient | None:
        row = self.sql.execute(select(table).where(_is(provider, client_id))).mappings().first()
        return StoredClient(**row) if row else None

    def lock(self, provider: str, client_id: str) -> StoredClient:
        """Return the client, inserted if it is missing; no one else writes it until this transaction ends."""
        values = {"provider": provider, "client_id": client_id, "omit_refresh_scope": False, "probes": 0}
        self.sql.execute(insert_or_update(self.sql, table, values, {"client_id": client_id}))
        return StoredClient(**self.sql.execute(select(table).where(_is(provider, client_id))).mappings().one())

    def save(self, client: StoredClient) -> None:
        """Write the whole client, which the caller has locked."""
        values = {name: getattr(client, name) for name in names_of(StoredClient)}
        self.sql.execute(update(table).where(_is(client.provider, client.client_id)).values(**values))

    def probeable(self, provider: str, now: datetime) -> list[str]:
        """Return the rejected clients that one request may try now: the rule of `may_be_probed`."""
        query = select(table.c.client_id).where(
            table.c.provider == provider,
            table.c.rejected_at.is_not(None),
            table.c.paused_until <= now,
            or_(table.c.probing_until.is_(None), table.c.probing_until <= now),
        )
        return list(self.sql.execute(query).scalars())


def _is(provider: str, client_id: str) -> ColumnElement[bool]:
    return (table.c.provider == provider) & (table.c.client_id == client_id)
