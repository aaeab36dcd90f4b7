"""A breaker for each client: what was a pause of a rejected client opens for an unavailable endpoint as well."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

json_type = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
time_type = sa.DateTime(timezone=True)


def upgrade() -> None:
    for name in ("cause", "error", "endpoint"):
        op.add_column("client", sa.Column(name, sa.Text(), nullable=True))
    for name in ("opened_at", "next_probe_at", "probe_claimed_until", "closed_at", "paused_at"):
        op.add_column("client", sa.Column(name, time_type, nullable=True))
    op.add_column("client", sa.Column("status", sa.Integer(), nullable=True))
    op.add_column("client", sa.Column("suspects", json_type, nullable=False, server_default="[]"))
    op.execute(
        "UPDATE client SET cause = 'rejected', opened_at = rejected_at, error = rejected_error, "
        "next_probe_at = paused_until WHERE rejected_at IS NOT NULL"
    )
    for name in ("rejected_at", "rejected_error", "paused_until", "probing_until"):
        op.drop_column("client", name)
