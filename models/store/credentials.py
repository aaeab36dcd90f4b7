"""Credentials: the sealed pair, its lease and its intent."""

from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import insert, select, update

from models.oauth.credential import Credential
from models.store.rows import names_of, table_of, to_credential
from models.store.tables import CredentialRow

table = table_of(CredentialRow)
columns = [table.c[name] for name in names_of(Credential)]


class Credentials:
    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def get(self, connection_id: str) -> Credential | None:
        row = self.sql.execute(select(*columns).where(table.c.connection_id == connection_id)).mappings().first()
        return to_credential(row) if row else None

    def put(self, credential: Credential) -> None:
        """Writes the whole credential; the connection's row lock is held by the caller."""
        values = {name: getattr(credential, name) for name in names_of(Credential)}
        statement = update(table).where(table.c.connection_id == credential.connection_id)
        if self.sql.execute(statement.values(**values)).rowcount == 0:
            self.sql.execute(insert(table).values(**values))

    def present(
        self, credential: Credential, generation: int, owner: str, now: datetime, until: datetime
    ) -> Credential:
        """Writes lease and intent: from its commit on, the refresh token of `generation` counts as presented."""
        refused_at = credential.refused_at
        presented = replace(
            credential,
            lease_owner=owner,
            lease_until=until,
            presented_at=now,
            presented_generation=generation,
            presentations=credential.presentations + 1,
            answered_at=None,
            refused_at=refused_at or now if credential.refused_generation == generation else refused_at,
        )
        self.put(presented)
        return presented

    def refuse(self, connection_id: str, generation: int, forced_at: datetime | None) -> None:
        """Notes that the API refused the access token of this generation; `forced_at` is None where a refresh was under
        way already."""
        statement = update(table).where(table.c.connection_id == connection_id)
        self.sql.execute(statement.values(refused_generation=generation, refused_at=forced_at))

    def accept(self, connection_id: str) -> None:
        """Notes that the API took the access token: an earlier refusal is history, and the next one is news."""
        statement = update(table).where(table.c.connection_id == connection_id, table.c.refused_generation.is_not(None))
        self.sql.execute(statement.values(refused_generation=None, refused_at=None))
