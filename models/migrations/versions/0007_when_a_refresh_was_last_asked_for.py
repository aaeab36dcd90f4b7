"""When a refresh was last asked for: once a minute for each connection."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("connection", sa.Column("refresh_asked_at", sa.DateTime(timezone=True), nullable=True))
