"""Token requests counted per second instead of a list of their times."""

from collections import Counter
from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

json_type = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("pace", sa.Column("counts", json_type, nullable=False, server_default="{}"))
    pace = sa.table("pace", sa.column("provider"), sa.column("recent", json_type), sa.column("counts", json_type))
    sql = op.get_bind()
    for provider, recent in sql.execute(sa.select(pace.c.provider, pace.c.recent)).all():
        counts = Counter(str(int(datetime.fromisoformat(at).timestamp())) for at in recent)
        sql.execute(sa.update(pace).where(pace.c.provider == provider).values(counts=dict(counts)))
    op.drop_column("pace", "recent")
