"""A refresh that was answered with 503: presented, likely not spent, and not taken back before that is known."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("credential", sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True))
