"""Connections: found, locked, saved."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import Text, bindparam, func, insert, literal_column, select, update
from sqlalchemy import table as table_named

from models.oauth.authorization import Step
from models.oauth.claims import Claims, released, unchanged
from models.oauth.client import StoredClient
from models.oauth.connection import Connection, DisconnectRequest, Status, newest_disconnect, personal_client
from models.oauth.credential import Credential
from models.oauth.refresh_policy import accepts_request
from models.store import authorizations, clients, credentials
from models.store.rows import begun_ids, from_connection, names_of, table_of, to_connection
from models.store.statement import Row, Statement, Writing
from models.store.tables import ConnectionRow
from models.store.views import refreshable

table = table_of(ConnectionRow)
can_refresh = select(literal_column("connection_id", Text)).select_from(table_named(refreshable))
names = names_of(Connection)
columns = [table.c[name] for name in names]
of_id = table.c.id == bindparam("own_id")
is_active = table.c.status == Status.active.value


_get = Statement(select(*columns).where(of_id))
_lock = Statement(select(*columns).where(of_id).with_for_update())
pair = select(*columns, *credentials.columns).join(credentials.table, credentials.table.c.connection_id == table.c.id)
# Race: whoever waits for the connection's lock is given the row as it was committed then, and of a row that is not
# locked with it the one before. So both are locked.
_lock_pair = Statement(pair.where(of_id).with_for_update())
_with_client = (
    pair.add_columns(*clients.columns)
    .outerjoin(
        clients.table,
        (clients.table.c.provider == table.c.provider) & (clients.table.c.client_id == table.c.client_id),
    )
    .where(of_id)
)
_get_refreshable = Statement(_with_client)
_lock_refreshable = Statement(_with_client.with_for_update(of=[table, credentials.table]))
_insert = Statement(insert(table).inline(), names)
_is_lived_by = Statement(
    select(table.c.id)
    .where(*(table.c[name] == bindparam(name) for name in ("provider", "client_id", "account_id")), is_active)
    .limit(1)
)
_make_refresh_due = Statement(
    update(table).where(of_id, is_active, table.c.id.in_(can_refresh)), ("refresh_due_at", "refresh_claimed_until")
)
_authorized_at = Statement(
    select(func.max(authorizations.table.c.code_received_at)).where(
        authorizations.table.c.connection_id == bindparam("own_id"),
        authorizations.table.c.step == Step.connected.value,
    )
)
_pasted_at = Statement(
    select(credentials.table.c.issued_at)
    .join(table, table.c.id == credentials.table.c.connection_id)
    .where(of_id, table.c.client_id == personal_client)
)
_lock_disconnect = Statement(select(table.c.disconnect_due_at, table.c.erase_requested).where(of_id).with_for_update())
_request_sync = Statement(update(table).where(of_id), ("sync_requested",))
_make_sync_due = Statement(update(table).where(of_id), ("sync_requested", "sync_due_at", "sync_claimed_until"))


@cache
def _save(claims: tuple[str, ...]) -> Statement:
    """Return the statement that writes a connection and these of its claims."""
    newest = update(table).where(of_id, table.c.generation == bindparam("own_generation"))
    return Statement(newest, (*names, *claims))


any_problem = "any"


@dataclass(frozen=True, slots=True)
class Refreshable:
    """What a refresh is decided by: a connection with its credential, and the client whose token it is."""

    connection: Connection
    credential: Credential
    client: StoredClient | None


class Connections:
    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def get(self, connection_id: str) -> Connection | None:
        row = _get.first(self.sql, own_id=connection_id)
        return to_connection(row) if row else None

    def has_client(self, provider: str, client_id: str) -> bool:
        """Return whether a connection of this client is active."""
        of_client = (table.c.provider == provider) & (table.c.client_id == client_id)
        query = select(table.c.id).where(of_client, table.c.status == Status.active.value).limit(1)
        return self.sql.execute(query).first() is not None

    def lock(self, connection_id: str) -> Connection | None:
        """The connection, no one else writing it until this transaction ends; to be locked before its credential."""
        row = _lock.first(self.sql, own_id=connection_id)
        return to_connection(row) if row else None

    def lock_pair(self, connection_id: str) -> tuple[Connection | None, Credential | None]:
        """Return the connection and its credential, no one else writing either until this transaction ends."""
        row = _lock_pair.first(self.sql, own_id=connection_id)
        if row is None:
            return self.lock(connection_id), None
        return to_connection(row[: len(columns)]), Credential(*row[len(columns) :])

    def get_refreshable(self, connection_id: str) -> Refreshable | None:
        """Return what a refresh is decided by, as it is now; None if there is no such connection or no credential."""
        return _to_refreshable(_get_refreshable.first(self.sql, own_id=connection_id))

    def lock_refreshable(self, connection_id: str) -> Refreshable | None:
        """Like `get_refreshable`, no one else writing the connection or its credential until this transaction ends."""
        return _to_refreshable(_lock_refreshable.first(self.sql, own_id=connection_id))

    def lock_account(self, provider: str, user_id: str, account_id: str) -> Connection | None:
        query = (
            select(*columns)
            .where(table.c.provider == provider, table.c.user_id == user_id, table.c.account_id == account_id)
            .with_for_update()
        )
        row = self.sql.execute(query).first()
        return to_connection(row) if row else None

    def is_lived_by(self, provider: str, client_id: str, account_id: str) -> bool:
        """Whether an active connection, whoever's it is, lives by a grant of this account to this client."""
        found = _is_lived_by.first(self.sql, provider=provider, client_id=client_id, account_id=account_id)
        return found is not None

    def others_of_account(self, connection: Connection) -> tuple[str, ...]:
        """Return the other users, up to 100, with an active connection of the same account of the provider.

        Of two users who connect it at the same moment, the second one here waits for the first, and finds it.
        """
        if self.sql.dialect.name == "postgresql":
            name = f"account/{connection.provider}/{connection.account_id}"
            self.sql.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))
        query = select(table.c.user_id).where(
            table.c.provider == connection.provider,
            table.c.account_id == connection.account_id,
            table.c.user_id != connection.user_id,
            table.c.status == Status.active.value,
        )
        return tuple(self.sql.execute(query.distinct().order_by(table.c.user_id).limit(100)).scalars())

    def is_used_by(self, provider: str, client_id: str, user_id: str) -> bool:
        """Whether an active connection of this user has tokens of this client."""
        return any(
            (found.provider, found.client_id, found.status) == (provider, client_id, Status.active)
            for found in self.find(user_id=user_id)
        )

    def add(self, connection: Connection) -> None:
        _insert.run(self.sql, **from_connection(connection))

    def save(self, connection: Connection, generation: int, claims: Claims = released) -> bool:
        """Write the connection and its claims if it is still at `generation`; False if a newer pair was saved since."""
        statement, values = saving(connection, generation, claims)
        return statement.run(self.sql, **values) == 1

    def make_refresh_due(self, connection_id: str, now: datetime) -> bool:
        """Make an active connection's refresh due now; False if there is no such connection, or no refresh token."""
        due = {"refresh_due_at": now, "refresh_claimed_until": None}
        return _make_refresh_due.run(self.sql, own_id=connection_id, **due) == 1

    def request_refresh(self, connection_id: str, now: datetime) -> bool:
        """Make an active connection's refresh due now because someone asked for it; False if nothing changed.

        See `accepts_request`; a connection without a refresh token has nothing to make due.
        """
        query = select(table.c.refresh_asked_at).where(table.c.id == connection_id).with_for_update()
        # Race: two requests at once. The row's lock lets the second see the first.
        asked = self.sql.execute(query).first()
        if asked is None or not accepts_request(asked[0], now) or not self.make_refresh_due(connection_id, now):
            return False
        self.sql.execute(update(table).where(table.c.id == connection_id).values(refresh_asked_at=now))
        return True

    def request_sync(self, connection_id: str, due_at: datetime | None) -> None:
        """Note that someone asked for a sync, and make it due; not if `due_at` is None."""
        if due_at is None:
            _request_sync.run(self.sql, own_id=connection_id, sync_requested=True)
            return
        due = {"sync_due_at": due_at, "sync_claimed_until": None}
        _make_sync_due.run(self.sql, own_id=connection_id, sync_requested=True, **due)

    def request_disconnect(self, connection_id: str, asked_at: datetime, erase: bool) -> bool:
        """Make a disconnect due (see `newest_disconnect`); False if there is no such connection."""
        # The race: two requests at once. The row's lock lets the second see the first.
        before = _lock_disconnect.first(self.sql, own_id=connection_id)
        if before is None:
            return False
        pending = _to_request(before)
        authorized_at = None if pending is None else self.authorized_at(connection_id)
        newest = newest_disconnect(pending, DisconnectRequest(asked_at, erase), authorized_at)
        due = {"disconnect_due_at": newest.asked_at, "erase_requested": newest.erase, "disconnect_claimed_until": None}
        self.sql.execute(update(table).where(table.c.id == connection_id).values(**due))
        return True

    def pending_disconnect(self, connection_id: str) -> DisconnectRequest | None:
        """Return the disconnect that is still to be carried out."""
        query = select(table.c.disconnect_due_at, table.c.erase_requested).where(table.c.id == connection_id)
        return _to_request(self.sql.execute(query).first())

    def take_disconnect(self, connection_id: str) -> None:
        """Remove the request, which this transaction carries out or ignores."""
        done = {"disconnect_due_at": None, "disconnect_claimed_until": None, "erase_requested": False}
        self.sql.execute(update(table).where(table.c.id == connection_id).values(**done))

    def authorized_at(self, connection_id: str) -> datetime | None:
        """Return when the user authorized last, or when the newest personal access token came."""
        times = [each.scalar(self.sql, own_id=connection_id) for each in (_authorized_at, _pasted_at)]
        return max((at for at in times if at is not None), default=None)

    def find(
        self,
        *,
        user_id: str | None = None,
        provider: str | None = None,
        status: str | None = None,
        problem: str | None = None,
        limit: int = 1000,
    ) -> Sequence[Connection]:
        """Return connections, oldest first; the problem `any_problem` stands for each."""
        query = select(*columns).order_by(table.c.created_at, table.c.id).limit(limit)
        wanted = {
            table.c.user_id: user_id,
            table.c.provider: provider,
            table.c.status: status,
            table.c.problem: None if problem == any_problem else problem,
        }
        if problem == any_problem:
            query = query.where(table.c.problem.is_not(None))
        for column, value in wanted.items():
            if value is not None:
                query = query.where(column == value)
        return [to_connection(row) for row in self.sql.execute(query)]

    def ids_of_account(self, provider: str, account_id: str, limit: int) -> Sequence[str]:
        """Return up to `limit` active connections of a provider's account, in the order of their ids."""
        own = (table.c.account_id == account_id) & (table.c.provider == provider) & is_active
        return list(self.sql.execute(select(table.c.id).where(own).order_by(table.c.id).limit(limit)).scalars())

    def ids_that_begin(self, prefix: str, limit: int) -> Sequence[str]:
        """Return up to `limit` ids of connections that begin so, in order."""
        return begun_ids(self.sql, table.c.id, prefix, limit)


def _to_request(row: Sequence[Any] | None) -> DisconnectRequest | None:
    return None if row is None or row[0] is None else DisconnectRequest(row[0], bool(row[1]))


def _to_refreshable(row: Row | None) -> Refreshable | None:
    if row is None:
        return None
    start, end = len(columns), len(columns) + len(credentials.columns)
    client = None if row[end] is None else clients.to_client(row[end:])
    return Refreshable(to_connection(row[:start]), Credential(*row[start:end]), client)


def saving(connection: Connection, generation: int, claims: Claims) -> Writing:
    """Return the statement that writes a connection and its claims if it is still at `generation`, with its values."""
    claimed = _columns_of(claims)
    own = {"own_id": connection.id, "own_generation": generation}
    return _save(tuple(claimed)), own | from_connection(connection) | claimed


def _columns_of(claims: Claims) -> dict[str, object]:
    """Return the columns of the claims that change.

    Whoever writes the sync's claim has stored a run, or ends or renews the connection: the lease of a run that is not
    stored ends with it.
    """
    claimed = {"refresh_claimed_until": claims.refresh, "sync_claimed_until": claims.sync}
    columns: dict[str, object] = {name: claim for name, claim in claimed.items() if claim is not unchanged}
    return columns if claims.sync is unchanged else columns | {"sync_lease_owner": None, "sync_lease_until": None}
