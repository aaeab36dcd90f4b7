"""Indexes for an operator's lists: connections by time, account, e-mail address and trouble; authorizations by time."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    is_postgres = op.get_bind().dialect.name == "postgresql"
    op.create_index("connection_of_account", "connection", ["account_id"])
    op.create_index("connection_created", "connection", ["created_at", "id"])
    # The addresses in the order of their bytes: in a language's order, how they begin is no range of the index.
    address = "lower(email) text_pattern_ops" if is_postgres else "lower(email)"
    op.create_index("connection_email", "connection", [sa.text(address)])
    _add("connection_not_active", "connection", ["status", "created_at", "id"], "status <> 'active'")
    _add("connection_problem", "connection", ["problem", "created_at", "id"], "problem IS NOT NULL")
    _add("authorization_unconnected", "authorization", ["created_at", "id"], "step <> 'connected'")
    _add("authorization_of_user", "authorization", ["user_id", "created_at"], "step <> 'connected'")


def _add(name: str, table: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, postgresql_where=where, sqlite_where=where)
