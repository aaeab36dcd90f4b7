"""The requests of one job as one row, shown one by one by a view; room on a page for what is updated in place."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

single_calls = ("method", "path", "status", "duration_ms")
fillfactors = {"connection": 70, "credential": 50, "sync_run": 70, "event": 70, "counter": 80, "pace": 50, "lease": 50}


def upgrade() -> None:
    sql = op.get_bind()
    is_postgres = sql.dialect.name == "postgresql"
    op.rename_table("request_log", "request_batch")
    op.drop_index("request_log_at", "request_batch")
    op.drop_index("request_log_connection", "request_batch")
    op.add_column("request_batch", sa.Column("calls", sa.Text(), nullable=False, server_default="[]"))
    array = "json_build_array" if is_postgres else "json_array"
    op.execute(f"UPDATE request_batch SET calls = {array}({array}(0, method, path, status, duration_ms))")  # noqa: S608
    for name in single_calls:
        op.drop_column("request_batch", name)
    op.create_index("request_batch_at", "request_batch", ["at"])
    op.create_index("request_batch_connection", "request_batch", ["connection_id", "position"])
    op.drop_index("sync_run_finished", "sync_run")
    finished = sa.text("finished_at IS NOT NULL")
    op.create_index("sync_run_finished", "sync_run", ["finished_at"], postgresql_where=finished, sqlite_where=finished)
    if is_postgres:
        op.execute("ALTER SEQUENCE request_log_position_seq RENAME TO request_batch_position_seq")
        op.execute("ALTER INDEX request_log_pkey RENAME TO request_batch_pkey")
        _keep_readers(sql)
        for table, percent in fillfactors.items():
            op.execute(f"ALTER TABLE {table} SET (fillfactor = {percent})")


def _keep_readers(sql: sa.Connection) -> None:
    """Let whoever could read the table of requests read the view; `migrate` makes it as it is to be."""
    op.execute("CREATE VIEW request_log AS SELECT position, at, connection_id FROM request_batch")
    readers = sa.text(
        "SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END "
        "FROM pg_class CROSS JOIN LATERAL aclexplode(relacl) "
        "WHERE pg_class.oid = to_regclass('request_batch') AND privilege_type = 'SELECT' AND grantee <> relowner"
    )
    for reader in sql.execute(readers).scalars().all():
        op.execute(f"GRANT SELECT ON request_log TO {reader}")
