"""Whose a grant is that never became a connection, so that it is not revoked once they have one."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("revocation", sa.Column("user_id", sa.String(), nullable=True))
    op.add_column("revocation", sa.Column("account_id", sa.String(), nullable=True))
