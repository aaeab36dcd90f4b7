"""Indexes for refusals that are held, are released, or ended their connections: every sweep looks for some."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    held, released = ["provider", "client_id", "refused_at"], ["connection_id"]
    _add("refusal_held", held, postgresql="is_held", sqlite="is_held = 1")
    _add("refusal_released", released, postgresql="is_released", sqlite="is_released = 1")
    ended = "ended_at IS NOT NULL"
    _add("refusal_ended", ["ended_at"], postgresql=ended, sqlite=ended)


def _add(name: str, columns: list[str], *, postgresql: str, sqlite: str) -> None:
    op.create_index(name, "refusal", columns, postgresql_where=sa.text(postgresql), sqlite_where=sa.text(sqlite))
