"""Credentials: the sealed pair, its lease and its intent."""

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import bindparam, insert, select
from sqlalchemy import update as sql_update

from models.oauth.credential import Credential
from models.store.rows import names_of, table_of
from models.store.statement import Statement
from models.store.tables import CredentialRow

table = table_of(CredentialRow)
names = names_of(Credential)
columns = [table.c[name] for name in names]
_get = Statement(select(*columns).where(table.c.connection_id == bindparam("own_id")))
_insert = Statement(insert(table).inline(), names)
update = Statement(sql_update(table).where(table.c.connection_id == bindparam("own_id")), names)


def values_of(credential: Credential) -> dict[str, object]:
    """Return what `update` takes."""
    return {"own_id": credential.connection_id} | {name: getattr(credential, name) for name in names}


class Credentials:
    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def get(self, connection_id: str) -> Credential | None:
        row = _get.first(self.sql, own_id=connection_id)
        return Credential(*row) if row else None

    def put(self, credential: Credential) -> None:
        """Write the whole credential; the caller has locked the connection's row."""
        values = values_of(credential)
        if update.run(self.sql, **values) == 0:
            _insert.run(self.sql, **values)
