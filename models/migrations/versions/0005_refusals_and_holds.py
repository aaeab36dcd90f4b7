"""Refusals that wait or are held before anybody is told, and the hold of a client."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

json_type = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
time_type = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "refusal",
        sa.Column("connection_id", sa.Text(), primary_key=True),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detected_by", sa.Text(), nullable=False),
        sa.Column("evidence", json_type, nullable=False),
        sa.Column("refused_at", time_type, nullable=False),
        sa.Column("due_at", time_type, nullable=True),
        sa.Column("ended_at", time_type, nullable=True),
        sa.Column("is_held", sa.Boolean(), nullable=False),
        sa.Column("is_released", sa.Boolean(), nullable=False),
    )
    op.create_index("refusal_client", "refusal", ["provider", "client_id", "refused_at"])
    op.create_table(
        "hold",
        sa.Column("provider", sa.Text(), primary_key=True),
        sa.Column("client_id", sa.Text(), primary_key=True),
        sa.Column("opened_at", time_type, nullable=False),
        sa.Column("by_operator", sa.Boolean(), nullable=False),
        sa.Column("trials", sa.Integer(), nullable=False),
        sa.Column("next_trial_at", time_type, nullable=False),
    )
