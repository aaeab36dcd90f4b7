"""Revocations: grants that their providers have yet to revoke."""

from collections.abc import Sequence

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import bindparam, delete, insert, select, update

from models.oauth.revocation import Revocation
from models.store.rows import names_of, table_of
from models.store.statement import Statement
from models.store.tables import RevocationRow

table = table_of(RevocationRow)
columns = [table.c[name] for name in names_of(Revocation)]
_of = Statement(select(*columns).where(table.c.connection_id == bindparam("own_connection_id")))


class Revocations:
    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def add(self, revocation: Revocation) -> None:
        self.sql.execute(insert(table).values(**_values(revocation)))

    def lock(self, revocation_id: str) -> Revocation | None:
        query = select(*columns).where(table.c.id == revocation_id).with_for_update()
        row = self.sql.execute(query).mappings().first()
        return Revocation(**row) if row else None

    def of(self, connection_id: str) -> Sequence[Revocation]:
        return [Revocation(*row) for row in _of.all(self.sql, own_connection_id=connection_id)]

    def save(self, revocation: Revocation) -> None:
        statement = update(table).where(table.c.id == revocation.id)
        self.sql.execute(statement.values(**_values(revocation), claimed_until=None))

    def end(self, revocation_id: str) -> bool:
        """Delete it with its token; False if another transaction has."""
        return self.sql.execute(delete(table).where(table.c.id == revocation_id)).rowcount == 1


def _values(revocation: Revocation) -> dict[str, object]:
    return {name: getattr(revocation, name) for name in names_of(Revocation)}
