"""Credentials: the sealed pair, its lease and its intent."""

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import bindparam, insert, select
from sqlalchemy import update as sql_update

from models.oauth.credential import Credential
from models.store.rows import names_of, table_of
from models.store.statement import Statement, Writing
from models.store.tables import CredentialRow

table = table_of(CredentialRow)
names = names_of(Credential)
columns = [table.c[name] for name in names]
_get = Statement(select(*columns).where(table.c.connection_id == bindparam("own_id")))
_insert = Statement(insert(table).inline(), names)
notes = tuple(name for name in names if name not in ("connection_id", "access_token", "refresh_token"))
_update = sql_update(table).where(table.c.connection_id == bindparam("own_id"))
_save = Statement(_update, names)
_save_notes = Statement(_update, notes)


def saving(credential: Credential, has_new_tokens: bool) -> Writing:
    """Return the statement that writes a credential, with its values.

    Tokens that stay as they are are not written again: they are most of the row, and PostgreSQL would store them a
    second time, as it can't tell that they are the same.
    """
    chosen = names if has_new_tokens else notes
    values = {"own_id": credential.connection_id} | {name: getattr(credential, name) for name in chosen}
    return _save if has_new_tokens else _save_notes, values


class Credentials:
    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def get(self, connection_id: str) -> Credential | None:
        row = _get.first(self.sql, own_id=connection_id)
        return Credential(*row) if row else None

    def put(self, credential: Credential) -> None:
        """Write the whole credential; the caller has locked the connection's row."""
        statement, values = saving(credential, has_new_tokens=True)
        if statement.run(self.sql, **values) == 0:
            _insert.run(self.sql, **values)
