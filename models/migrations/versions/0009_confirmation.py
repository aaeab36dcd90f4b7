"""Who confirms that the browser is the link's user's, and when that happened."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("authorization", sa.Column("confirmation", sa.String(), nullable=False, server_default="page"))
    op.add_column("authorization", sa.Column("confirmation_hash", sa.String(), nullable=True))
    op.add_column("authorization", sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True))
