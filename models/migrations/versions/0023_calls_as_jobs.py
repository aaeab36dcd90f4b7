"""Calls to the provider's API as jobs."""

import sqlalchemy as sa
from alembic import op

from models.store.tables import SealedText, UtcTime

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "call",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("connection_id", sa.String(), nullable=False),
        sa.Column("idempotency_key", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("request", SealedText(), nullable=True),
        sa.Column("answer", SealedText(), nullable=True),
        sa.Column("bodies_until", UtcTime(), nullable=True),
        sa.Column("due_at", UtcTime(), nullable=True),
        sa.Column("claimed_until", UtcTime(), nullable=True),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("answer_status", sa.Integer(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("ended_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("connection_id", "idempotency_key", name="call_idempotency"),
    )
    _add("call_due", ["due_at"], "due_at IS NOT NULL")
    _add("call_bodies", ["bodies_until"], "bodies_until IS NOT NULL")
    op.create_index("call_created", "call", ["created_at"])


def _add(name: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, "call", columns, postgresql_where=where, sqlite_where=where)
