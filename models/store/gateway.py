"""What the gateway reads and writes of connections: never a refresh token, which its role in PostgreSQL can't read."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import Text, bindparam, func, literal_column, null, select, type_coerce, update
from sqlalchemy import table as table_named

from models.gateway.access import Access
from models.oauth.connection import Connection
from models.oauth.credential import Credential
from models.store import clients, credentials
from models.store.connections import columns as connection_columns
from models.store.connections import table
from models.store.rows import to_connection
from models.store.statement import Row, Statement, is_one_of
from models.store.views import refreshable

most_looked_at = 10_000
"""How many connections are looked at for a page of those of one status that are of some providers as well."""
refresh_tokens = select(literal_column("connection_id", Text)).select_from(table_named(refreshable))
_credential = [
    type_coerce(null(), column.type).label(column.name) if column.name == "refresh_token" else column
    for column in credentials.columns
]
_is_kept_back = func.coalesce(clients.is_open, literal_column("1 = 0"))


def _chosen(of_ids: Any) -> Any:
    return (
        select(
            *connection_columns,
            *_credential,
            table.c.refresh_asked_at,
            table.c.id.in_(refresh_tokens),
            _is_kept_back,
        )
        .outerjoin(credentials.table, credentials.table.c.connection_id == table.c.id)
        .outerjoin(
            clients.table,
            (clients.table.c.provider == table.c.provider) & (clients.table.c.client_id == table.c.client_id),
        )
        .where(of_ids)
    )


_find = Statement(lambda dialect: _chosen(is_one_of(dialect, table.c.id, "ids")))
_lock = Statement(select(table.c.id).where(table.c.id == bindparam("own_id")).with_for_update())
_refresh = Statement(
    update(table).where(table.c.id == bindparam("own_id"), table.c.generation == bindparam("own_generation")),
    ("refresh_due_at", "refresh_claimed_until"),
)
_refuse = Statement(
    update(credentials.table).where(credentials.table.c.connection_id == bindparam("own_id")),
    ("refused_generation", "refused_at"),
)


class Gateway:
    """The gateway's part of one transaction's database."""

    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def find(self, ids: Sequence[str]) -> dict[str, Access]:
        """Return the connections that exist, by id."""
        found = [_to_access(row) for row in _find.all(self.sql, ids=list(ids))]
        return {access.connection.id: access for access in found}

    def lock(self, connection_id: str) -> Access | None:
        """Return the connection, no one else writing it until this transaction ends."""
        # Race: who waits for a lock may have been given the row as it was before; the second statement sees it now.
        # Whoever writes the credential has locked the connection first.
        _lock.all(self.sql, own_id=connection_id)
        return self.find([connection_id]).get(connection_id)

    def refuse_access(self, connection: Connection, credential: Credential, now: datetime, until: datetime) -> None:
        """Write that the API refused the access token; the refresh is due, and `until` its message is on its way."""
        due = {"refresh_due_at": now, "refresh_claimed_until": until}
        _refresh.run(self.sql, own_id=connection.id, own_generation=connection.generation, **due)
        refused = {"refused_generation": credential.refused_generation, "refused_at": credential.refused_at}
        _refuse.run(self.sql, own_id=connection.id, **refused)

    def page(
        self, wanted: Mapping[str, str], providers: frozenset[str] | None, after: str, limit: int
    ) -> tuple[Sequence[Connection], str | None]:
        """Return up to `limit` connections with ids after one, in the order of their ids; and the id that the next page
        comes after, None if there is none.

        `wanted` has the values that columns have to have, `providers` those that may be seen; None for all. Of one
        status there may be very many connections, and of a provider, and of both none: PostgreSQL does not know that,
        and would read them all. So such a page looks at a bounded number.
        """
        seen = providers if "provider" not in wanted or providers is None else providers & {wanted["provider"]}
        if seen is not None and not seen:
            return (), None
        conditions = [table.c[name] == value for name, value in wanted.items()]
        if seen is not None and "provider" not in wanted:
            conditions.append(table.c.provider.in_(sorted(seen)))
        is_of_one_user, is_of_providers = "user_id" in wanted, "provider" in wanted or seen is not None
        is_bounded = "status" in wanted and is_of_providers and not is_of_one_user
        end = self._find_end(after) if is_bounded else None
        if end is not None:
            conditions.append(table.c.id <= end)
        query = select(*connection_columns).where(table.c.id > after, *conditions).order_by(table.c.id)
        found = [to_connection(row) for row in self.sql.execute(query.limit(limit + 1))]
        return (found[:limit], found[limit - 1].id) if len(found) > limit else (found, end)

    def _find_end(self, after: str) -> str | None:
        """Return the last id that a page may look at; None if there are fewer than that after this one."""
        ids = select(table.c.id).where(table.c.id > after).order_by(table.c.id)
        end: str | None = self.sql.execute(ids.offset(most_looked_at - 1).limit(1)).scalar()
        return end


def _to_access(row: Row) -> Access:
    start, end = len(connection_columns), len(connection_columns) + len(_credential)
    own = row[start:end]
    asked_at, is_refreshable, is_kept_back = row[end:]
    return Access(
        connection=to_connection(row[:start]),
        credential=None if own[0] is None else Credential(*own),
        refresh_asked_at=asked_at,
        is_refreshable=bool(is_refreshable),
        is_kept_back=bool(is_kept_back),
    )
