"""Webhooks: endpoints of the application, and what each has yet to be sent."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from models.store.tables import UtcTime

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

json_type = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "webhook",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False, unique=True),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("types", json_type, nullable=False),
        sa.Column("allow_private", sa.Boolean(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("previous_secret", sa.Text()),
        sa.Column("previous_until", UtcTime()),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("paused_at", UtcTime()),
        sa.Column("is_gone", sa.Boolean(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failing_since", UtcTime()),
        sa.Column("retry_at", UtcTime()),
        sa.Column("delivered_at", UtcTime()),
        sa.Column("error", sa.String()),
        sa.Column("claimed_until", UtcTime()),
        sa.Column("lease_owner", sa.String()),
        sa.Column("lease_until", UtcTime()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "webhook_delivery",
        sa.Column("webhook_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("published_from", UtcTime(), nullable=False),
        sa.Column("waits_since", UtcTime(), nullable=False),
        sa.Column("due_at", UtcTime()),
        sa.Column("events_from", sa.Integer()),
        sa.Column("records_from", sa.Integer()),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.String()),
        sa.Column("dead_at", UtcTime()),
        sa.PrimaryKeyConstraint("webhook_id", "key"),
    )
    for name, columns, condition in (
        ("webhook_delivery_due", ["webhook_id", "due_at"], "due_at IS NOT NULL"),
        ("webhook_delivery_waiting", ["webhook_id", "waits_since"], "due_at IS NOT NULL"),
        ("webhook_delivery_dead", ["dead_at"], "dead_at IS NOT NULL"),
    ):
        where = sa.text(condition)
        op.create_index(name, "webhook_delivery", columns, postgresql_where=where, sqlite_where=where)
