"""Indexes for what is looked for by when it ended, or ends: authorizations, readings, decisions."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

open_ones = sa.text("step = 'started' AND due_at IS NULL")


def upgrade() -> None:
    op.create_index(
        "authorization_open", "authorization", ["expires_at"], postgresql_where=open_ones, sqlite_where=open_ones
    )
    op.create_index("authorization_created", "authorization", ["created_at"])
    op.create_index("authorization_connection", "authorization", ["connection_id"])
    op.create_index("decision_at", "decision", ["at"])
    op.create_index("sync_run_finished", "sync_run", ["finished_at"])
