"""Counts over the whole database, for `status`, `doctor` and metrics."""

from datetime import UTC, datetime

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import false, func, inspect, select, text, update

from models.oauth.authorization import Confirmation, Step
from models.oauth.client import Cause
from models.oauth.connection import Status
from models.store.rows import table_of
from models.store.statement import Statement
from models.store.tables import AuthorizationRow, CallRow, ClientRow, ConnectionRow

connections = table_of(ConnectionRow)
authorizations = table_of(AuthorizationRow)
calls = table_of(CallRow)
clients = table_of(ClientRow)
operators = (
    "authorization",
    "call",
    "client",
    "connection",
    "credential",
    "decision",
    "event",
    "hold",
    "pace",
    "process",
    "record",
    "refusal",
    "request_batch",
    "resource",
    "sync_page",
    "sync_run",
    "webhook",
    "webhook_delivery",
)
"""The tables that an operator's page is made of."""
_time = Statement(select(func.clock_timestamp()))
_time_of_sqlite = Statement(select(func.strftime("%Y-%m-%dT%H:%M:%f", "now")))


class Overview:
    """Read-only queries over all connections, authorizations and clients."""

    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def revision(self) -> str | None:
        """Return the schema's revision; None if the database was never migrated."""
        if not inspect(self.sql).has_table("alembic_version"):
            return None
        revision: str | None = self.sql.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return revision

    def time(self) -> datetime:
        """Return the database server's time; for SQLite that is this machine's."""
        if self.sql.dialect.name == "sqlite":
            return datetime.fromisoformat(_time_of_sqlite.scalar(self.sql)).replace(tzinfo=UTC)
        at: datetime = _time.scalar(self.sql)
        return at

    def try_to_write(self) -> None:
        """Write nothing, as a write: one that the database refuses is refused here. Raises `StoreUnavailable`."""
        self.sql.execute(update(connections).where(false()).values(id=""))

    def may_operate(self) -> bool:
        """Return whether this role may read all that an operator sees, and write what an operator asks for."""
        if self.sql.dialect.name == "sqlite":
            return True
        query = text(
            "SELECT bool_and(has_table_privilege(quote_ident(name), 'SELECT')) "
            "AND has_table_privilege('connection', 'UPDATE') AND has_table_privilege('hold', 'DELETE') "
            "FROM unnest(CAST(:names AS text[])) AS name"
        )
        return bool(self.sql.execute(query, {"names": list(operators)}).scalar_one())

    def connections_by_state(self) -> list[tuple[str, str, str, int]]:
        """Count the connections by provider, status and problem; this reads every one of them."""
        columns = (connections.c.provider, connections.c.status, connections.c.problem)
        rows = self.sql.execute(select(*columns, func.count()).group_by(*columns))
        return [(provider, status, problem or "", number) for provider, status, problem, number in rows]

    def connections_by_status(self) -> dict[str, int]:
        query = select(connections.c.status, func.count()).group_by(connections.c.status)
        return dict(self.sql.execute(query).all())

    def active_by_problem(self) -> dict[str, int]:
        """Count the active connections that have each problem."""
        troubled = (connections.c.status == Status.active.value) & connections.c.problem.is_not(None)
        query = select(connections.c.problem, func.count()).where(troubled).group_by(connections.c.problem)
        return dict(self.sql.execute(query.order_by(connections.c.problem)).all())

    def authorizations_waiting(self) -> int:
        """Count the authorizations whose code may leave and that made no connection yet."""
        # What waits is due at some time: so only the index of what is due is read.
        is_due = authorizations.c.due_at.is_not(None)
        came_back = authorizations.c.step.in_((Step.received.value, Step.granted.value))
        unconfirmed = (authorizations.c.confirmation == Confirmation.application.value) & (
            authorizations.c.confirmed_at.is_(None)
        )
        waiting = is_due & came_back & ~unconfirmed
        return self.sql.execute(select(func.count()).select_from(authorizations).where(waiting)).scalar_one()

    def due(self, now: datetime, most: int | None = None) -> dict[str, int]:
        """Count the refreshes, syncs, exchanges and calls that are due, each up to `most`."""
        columns = {
            "refreshes": connections.c.refresh_due_at,
            "syncs": connections.c.sync_due_at,
            "exchanges": authorizations.c.due_at,
            "calls": calls.c.due_at,
        }
        return {
            name: self.sql.execute(
                select(func.count()).select_from(select(column).where(column <= now).limit(most).subquery())
            ).scalar_one()
            for name, column in columns.items()
        }

    def oldest_due(self, now: datetime) -> datetime | None:
        columns = (connections.c.refresh_due_at, connections.c.sync_due_at, authorizations.c.due_at, calls.c.due_at)
        oldest = [self.sql.execute(select(func.min(column)).where(column <= now)).scalar() for column in columns]
        return min((at for at in oldest if at is not None), default=None)

    def rejected_clients(self) -> list[tuple[str, str, str]]:
        query = select(clients.c.provider, clients.c.client_id, clients.c.error)
        return [(p, c, e) for p, c, e in self.sql.execute(query.where(clients.c.cause == Cause.rejected.value))]
