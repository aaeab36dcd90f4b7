"""The PKCE challenge beside the sealed verifier, so that the web process need not open what it has sealed."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("authorization", sa.Column("challenge", sa.String(), nullable=True))
