"""Whether someone asked for a run; and no time of every reading of a list, which nothing reads."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sync_run", sa.Column("requested", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.drop_column("resource", "last_read_at")
