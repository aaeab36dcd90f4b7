"""History in partitions by day on PostgreSQL, which are dropped and not deleted; the rows move.

What is not over yet, unpublished events and unfinished runs, is in a table of its own: a small one, however long the
history is, and the only one that a query for it plans for. There is no way back but a backup.
"""

import zlib
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

days_ahead, longest_kept = 5, 40
lock_number = zlib.crc32(b"breezesync.days")

columns_of = {"request_batch": "at", "event": "published_at", "sync_run": "finished_at"}
"""The time by which a table's rows are put into days; a row of `event` or `sync_run` without it is not over."""
indexes = {
    "event_live": (
        "PRIMARY KEY (position)",
        "UNIQUE (id)",
        "UNIQUE (subject, stream, sequence)",
        "INDEX (created_at)",
    ),
    "event_default": (
        "PRIMARY KEY (position)",
        "UNIQUE (id)",
        "UNIQUE (subject, stream, sequence)",
        "INDEX (created_at)",
    ),
    "sync_run_live": (
        "PRIMARY KEY (id)",
        "UNIQUE INDEX (connection_id) WHERE status = 'running'",
        "INDEX (connection_id, started_at)",
        "FOREIGN KEY (connection_id) REFERENCES connection (id) ON DELETE CASCADE",
    ),
    "sync_run_default": ("PRIMARY KEY (id)", "INDEX (connection_id, started_at)"),
    "request_batch": ("PRIMARY KEY (position, at)", "INDEX (connection_id, position)"),
}

functions = (
    """
    CREATE FUNCTION breezesync_make_day(kind text, day date) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp SET lock_timeout = '500ms' AS $body$
    DECLARE
        parent text := CASE WHEN kind IN ('event', 'sync_run') THEN kind || '_past'
            WHEN kind = 'request_batch' THEN kind END;
        moment text := CASE kind WHEN 'request_batch' THEN 'at' WHEN 'event' THEN 'published_at'
            WHEN 'sync_run' THEN 'finished_at' END;
        others text := kind || '_default';
        made text := kind || '_day_' || to_char(day, 'YYYYMMDD');
        first timestamptz := day::timestamp AT TIME ZONE 'UTC';
        after timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
    BEGIN
        IF parent IS NULL OR day IS NULL THEN
            RAISE EXCEPTION 'not a table in days' USING ERRCODE = 'invalid_parameter_value';
        END IF;
        IF NOT pg_try_advisory_xact_lock({number}) OR to_regclass(made) IS NOT NULL THEN
            RETURN false;
        END IF;
        IF (SELECT count(*) FROM pg_inherits WHERE inhparent = parent::regclass) > 100 THEN
            RAISE EXCEPTION 'too many days' USING ERRCODE = 'program_limit_exceeded';
        END IF;
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)',
            made, others);
        IF first < now() + interval '1 day' THEN
            -- The race: a row that was on its way into the default partition would be refused once this day is made.
            EXECUTE format('LOCK TABLE ONLY %I IN SHARE MODE', kind);
        END IF;
        EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', others);
        EXECUTE format('WITH moved AS (DELETE FROM %I WHERE %I >= $1 AND %I < $2 RETURNING *) '
            'INSERT INTO %I SELECT * FROM moved', others, moment, moment, made) USING first, after;
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, made, first, after);
        RETURN true;
    END
    $body$
    """,
    """
    CREATE FUNCTION breezesync_drop_day(kind text, day date) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp SET lock_timeout = '500ms' AS $body$
    DECLARE
        gone text := kind || '_day_' || to_char(day, 'YYYYMMDD');
        kept text[];
    BEGIN
        IF kind IS NULL OR day IS NULL OR kind NOT IN ('event', 'sync_run', 'request_batch') THEN
            RAISE EXCEPTION 'not a table in days' USING ERRCODE = 'invalid_parameter_value';
        END IF;
        IF NOT pg_try_advisory_xact_lock({number}) OR to_regclass(gone) IS NULL THEN
            RETURN false;
        END IF;
        IF kind = 'sync_run' THEN
            EXECUTE format('SELECT array_agg(id) FROM (SELECT DISTINCT ON (connection_id) id, connection_id, '
                'started_at FROM %I ORDER BY connection_id, started_at DESC) newest WHERE NOT EXISTS ('
                'SELECT FROM sync_run '
                'WHERE sync_run.connection_id = newest.connection_id AND sync_run.started_at > newest.started_at)',
                gone) INTO kept;
            EXECUTE format('ALTER TABLE sync_run_past DETACH PARTITION %I', gone);
            EXECUTE format('INSERT INTO sync_run SELECT * FROM %I WHERE id = ANY ($1)', gone) USING kept;
        END IF;
        EXECUTE format('DROP TABLE %I', gone);
        RETURN true;
    END
    $body$
    """,
    """
    CREATE FUNCTION breezesync_stray_rows(kind text) RETURNS bigint
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp AS $body$
    DECLARE
        moment text := CASE kind WHEN 'request_batch' THEN 'at' WHEN 'event' THEN 'published_at'
            WHEN 'sync_run' THEN 'finished_at' END;
        first timestamptz;
        strays bigint;
    BEGIN
        IF moment IS NULL THEN
            RAISE EXCEPTION 'not a table in days' USING ERRCODE = 'invalid_parameter_value';
        END IF;
        SELECT coalesce(min(to_date(right(relname, 8), 'YYYYMMDD'))::timestamp AT TIME ZONE 'UTC', '-infinity')
            INTO first FROM pg_class JOIN pg_inherits ON inhrelid = pg_class.oid
            WHERE inhparent = CASE kind WHEN 'request_batch' THEN kind ELSE kind || '_past' END::regclass
            AND position('_day_' IN relname) > 0;
        EXECUTE format('SELECT count(*) FROM (SELECT FROM %I WHERE %I >= $1 LIMIT 1000) found',
            kind || '_default', moment) INTO strays USING first;
        RETURN strays;
    END
    $body$
    """,
)


def upgrade() -> None:
    sql = op.get_bind()
    if sql.dialect.name != "postgresql":
        return
    schema = sql.execute(sa.text("SELECT quote_ident(current_schema())")).scalar_one()
    view = sql.execute(sa.text("SELECT pg_get_viewdef('request_log'::regclass)")).scalar_one()
    for table in columns_of:
        _set_aside(sql, table)
    _make_tables()
    for function in functions:
        _run(sql, function.format(schema=schema, number=lock_number))
    for name in ("breezesync_make_day(text, date)", "breezesync_drop_day(text, date)", "breezesync_stray_rows(text)"):
        op.execute(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC")
    for table, column in columns_of.items():
        _make_days(sql, table, column)
        op.execute(f"INSERT INTO {table} SELECT * FROM {table}_before")  # noqa: S608
        _keep_privileges(sql, table)
    _run(sql, f"CREATE OR REPLACE VIEW request_log AS {view}")
    for table in ("event", "request_batch"):
        op.execute(f"ALTER SEQUENCE {table}_position_seq OWNED BY {table}.position")
    for table in columns_of:
        op.execute(f"DROP TABLE {table}_before")


def _run(sql: sa.Connection, statement: str) -> None:
    """Run a text as it is: neither a colon nor a percent sign in it is a parameter."""
    sql.exec_driver_sql(statement, execution_options={"no_parameters": True})


def _set_aside(sql: sa.Connection, table: str) -> None:
    """Rename the table and its indexes; what refers to its rows no longer does."""
    if table == "sync_run":
        op.execute("ALTER TABLE sync_page DROP CONSTRAINT sync_page_run_id_fkey")
    named = sa.text(
        "SELECT format('ALTER INDEX %s RENAME TO %I', indexrelid::regclass, left(relname, 56) || '_before') "
        "FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE indrelid = to_regclass(:name)"
    )
    for statement in sql.execute(named, {"name": table}).scalars().all():
        _run(sql, statement)
    op.execute(f"ALTER TABLE {table} RENAME TO {table}_before")


def _make_tables() -> None:
    for table, column in columns_of.items():
        by = "RANGE (at)" if table == "request_batch" else f"LIST (({column} IS NULL))"
        op.execute(f"CREATE TABLE {table} (LIKE {table}_before INCLUDING DEFAULTS) PARTITION BY {by}")
    for table, column in (("event", "published_at"), ("sync_run", "finished_at")):
        fill = " WITH (fillfactor = 70)" if table == "sync_run" else ""
        op.execute(f"CREATE TABLE {table}_live PARTITION OF {table} FOR VALUES IN (true){fill}")
        op.execute(
            f"CREATE TABLE {table}_past PARTITION OF {table} FOR VALUES IN (false) PARTITION BY RANGE ({column})"
        )
        op.execute(f"CREATE TABLE {table}_default PARTITION OF {table}_past DEFAULT")
    op.execute("CREATE TABLE request_batch_default PARTITION OF request_batch DEFAULT")
    for table, parts in indexes.items():
        for part in parts:
            kind, _, columns = part.rpartition("INDEX ")
            made = f"CREATE {kind}INDEX ON {table} {columns}" if "INDEX" in part else f"ALTER TABLE {table} ADD {part}"
            op.execute(made)


def _make_days(sql: sa.Connection, table: str, column: str) -> None:
    """Make the days that have rows, today's and some ahead."""
    today = datetime.now(UTC).date()
    days = {today + timedelta(days=ahead) for ahead in range(days_ahead + 1)}
    found = f"SELECT DISTINCT ({column} AT TIME ZONE 'UTC')::date FROM {table}_before WHERE {column} IS NOT NULL"  # noqa: S608
    oldest = today - timedelta(days=longest_kept)
    days |= {day for day in sql.execute(sa.text(found)).scalars() if oldest <= day <= max(days)}
    for day in sorted(days):
        sql.execute(sa.text("SELECT breezesync_make_day(:kind, :day)"), {"kind": table, "day": day})


def _keep_privileges(sql: sa.Connection, table: str) -> None:
    """Give everyone what they could do with the table; whoever could delete its rows may make and drop its days."""
    granted = sa.text(
        "SELECT acl.privilege_type, CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) "
        "END, '' FROM pg_class CROSS JOIN LATERAL aclexplode(relacl) acl "
        "WHERE pg_class.oid = to_regclass(:name) AND acl.grantee <> relowner "
        "UNION ALL SELECT acl.privilege_type, CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE "
        "quote_ident(pg_get_userbyid(grantee)) END, ' (' || quote_ident(attname) || ')' FROM pg_class "
        "JOIN pg_attribute ON attrelid = pg_class.oid CROSS JOIN LATERAL aclexplode(attacl) acl "
        "WHERE pg_class.oid = to_regclass(:name) AND acl.grantee <> relowner"
    )
    for privilege, grantee, column in sql.execute(granted, {"name": f"{table}_before"}).all():
        op.execute(f"GRANT {privilege}{column} ON {table} TO {grantee}")
        if privilege == "DELETE":
            for name in ("breezesync_make_day", "breezesync_drop_day"):
                op.execute(f"GRANT EXECUTE ON FUNCTION {name} TO {grantee}")
