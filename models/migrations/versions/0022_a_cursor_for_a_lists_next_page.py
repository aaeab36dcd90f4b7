"""What a run needs for the next page of a list that is not read by numbers, and pages without a total."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sync_run", sa.Column("cursor", sa.Text(), nullable=True))
    with op.batch_alter_table("sync_page", reflect_kwargs={"resolve_fks": False}) as table:
        table.alter_column("total", existing_type=sa.Integer(), nullable=True)
