"""OAuth clients: their sealed secrets, and the breakers of their token endpoints."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import and_, bindparam, or_, select, update

from models.messaging import messages
from models.oauth.client import Cause, StoredClient
from models.store.dialect import insert_or_update
from models.store.rows import names_of, table_of
from models.store.statement import Statement
from models.store.tables import ClientRow

table = table_of(ClientRow)
names = names_of(StoredClient)
columns = [table.c[name] for name in names]
without_secret = tuple(name for name in names if name != "secret")
is_open = table.c.cause.is_not(None) | table.c.paused_at.is_not(None)
of_client = (table.c.provider == bindparam("own_provider")) & (table.c.client_id == bindparam("own_client_id"))
_is_probe_due = and_(
    table.c.cause.is_not(None),
    table.c.paused_at.is_(None),
    table.c.next_probe_at <= bindparam("now"),
    or_(table.c.probe_claimed_until.is_(None), table.c.probe_claimed_until <= bindparam("now")),
)
due_probes = select(table.c.client_id).where(_is_probe_due)
"""The rule of `begin_probe`, and one message at a time."""
_claim_probes = Statement(
    update(table)
    .where(table.c.provider == bindparam("own_provider"), _is_probe_due)
    .values(probe_claimed_until=bindparam("until"))
    .returning(table.c.client_id)
)
_get = Statement(select(*columns).where(of_client))
_save = Statement(update(table).where(of_client), names)


class Clients:
    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def get(self, provider: str, client_id: str) -> StoredClient | None:
        row = _get.first(self.sql, own_provider=provider, own_client_id=client_id)
        return to_client(row) if row else None

    def all(self, provider: str | None = None) -> Sequence[StoredClient]:
        """Return every client, or those of one provider, without their secrets."""
        query = select(*(table.c[name] for name in without_secret)).order_by(table.c.provider, table.c.client_id)
        if provider is not None:
            query = query.where(table.c.provider == provider)
        return [to_client(row, without_secret) for row in self.sql.execute(query)]

    def lock(self, provider: str, client_id: str) -> StoredClient:
        """Return the client, inserted if it is missing; no one else writes it until this transaction ends."""
        values = {
            "provider": provider,
            "client_id": client_id,
            "omit_refresh_scope": False,
            "probes": 0,
            "suspects": [],
        }
        self.sql.execute(insert_or_update(self.sql, table, values, {"client_id": client_id}))
        locked = self.get(provider, client_id)
        if locked is None:
            raise LookupError(f"the client {client_id} of {provider} was deleted while it was locked")
        return locked

    def save(self, client: StoredClient) -> None:
        """Write the whole client, which the caller has locked."""
        values = {name: getattr(client, name) for name in names}
        values |= {"cause": client.cause and client.cause.value, "suspects": list(client.suspects)}
        _save.run(self.sql, own_provider=client.provider, own_client_id=client.client_id, **values)

    def claim_probes(self, provider: str, now: datetime, until: datetime) -> Sequence[messages.Message]:
        """Claim the probes that are due: the rule of `begin_probe`, and one message at a time."""
        claimed = _claim_probes.all(self.sql, own_provider=provider, now=now, until=until)
        return [messages.probe_client(provider, client_id) for (client_id,) in claimed]

    def void_claims(self) -> int:
        """Give back the claim of every probe."""
        statement = update(table).where(table.c.probe_claimed_until.is_not(None))
        return self.sql.execute(statement.values(probe_claimed_until=None)).rowcount


def to_client(row: Iterable[Any], of: Sequence[str] = names) -> StoredClient:
    values = dict(zip(of, row, strict=True))
    values["cause"] = values["cause"] and Cause(values["cause"])
    values["suspects"] = tuple(values["suspects"])
    return StoredClient(**values)
