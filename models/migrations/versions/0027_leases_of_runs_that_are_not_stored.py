"""The lease of a run that is not stored yet, in its connection's row."""

import sqlalchemy as sa
from alembic import op

from models.store.tables import UtcTime

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("connection", sa.Column("sync_lease_owner", sa.String(), nullable=True))
    op.add_column("connection", sa.Column("sync_lease_until", UtcTime(), nullable=True))
