"""Credentials: the sealed pair, its lease and its intent."""

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import bindparam, insert, select, update

from models.oauth.credential import Credential
from models.store.rows import names_of, table_of
from models.store.statement import Statement
from models.store.tables import CredentialRow

table = table_of(CredentialRow)
names = names_of(Credential)
columns = [table.c[name] for name in names]
_get = Statement(select(*columns).where(table.c.connection_id == bindparam("own_id")))
_insert = Statement(insert(table).inline(), names)
_update = Statement(update(table).where(table.c.connection_id == bindparam("own_id")), names)


class Credentials:
    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def get(self, connection_id: str) -> Credential | None:
        row = _get.first(self.sql, own_id=connection_id)
        return Credential(*row) if row else None

    def put(self, credential: Credential) -> None:
        """Write the whole credential; the caller has locked the connection's row."""
        values = {name: getattr(credential, name) for name in names}
        if _update.run(self.sql, own_id=credential.connection_id, **values) == 0:
            _insert.run(self.sql, **values)
