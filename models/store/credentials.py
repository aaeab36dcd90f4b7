"""Credentials: the sealed pair, its lease and its intent."""

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
        """Write the whole credential; the caller has locked the connection's row."""
        values = {name: getattr(credential, name) for name in names_of(Credential)}
        statement = update(table).where(table.c.connection_id == credential.connection_id)
        if self.sql.execute(statement.values(**values)).rowcount == 0:
            self.sql.execute(insert(table).values(**values))
