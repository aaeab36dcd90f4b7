"""How long an authorization's code may be presented, which depends on the provider."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("authorization", sa.Column("code_seconds", sa.Integer(), nullable=False, server_default="600"))
