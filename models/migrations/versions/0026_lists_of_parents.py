"""Whose lists a run reads, of resources that are read once for each record of another one."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

json_type = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("sync_run", sa.Column("parents", json_type, nullable=False, server_default="{}"))
