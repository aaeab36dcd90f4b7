"""The processes of the fleet, each as it reported itself last."""

import sqlalchemy as sa
from alembic import op

from models.store.tables import UtcTime

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "process",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("reported_at", UtcTime(), nullable=False),
        sa.Column("ahead_seconds", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
