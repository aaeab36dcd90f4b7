"""How far each list was read, for those that are read incrementally between full readings."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

json_type = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("resource", sa.Column("since", sa.String(), nullable=True))
    op.add_column("resource", sa.Column("newest", sa.String(), nullable=True))
    op.add_column("sync_page", sa.Column("newest", sa.String(), nullable=True))
    op.add_column("sync_run", sa.Column("since", json_type, nullable=False, server_default="{}"))
