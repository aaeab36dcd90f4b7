"""The schema: made once however many make it, and the same that the tables describe."""

import json
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Column, ForeignKeyConstraint, Table, text

from models.crypto.secrets import Secret
from models.errors import SyncError
from models.migrations import alembic_config, migrate, newest_revision
from models.oauth.token_rate_limit import Pace
from models.store import Store, open_engine
from models.store.days import parents, partition_name
from models.store.tables import metadata
from models.sync.records import Item, RecordChanges, hash_content
from tests.store.conftest import Opened, add_connection

CHECKOUT = Path(__file__).parents[2]


def test_migrating_again_changes_nothing_and_keeps_what_is_there(opened: Opened) -> None:
    connection = add_connection(opened.store)
    assert migrate(opened.store.engine, [opened.profile]) == newest_revision()
    with opened.store.reading() as tx:
        assert tx.connections.get(connection.id) == connection


@pytest.mark.filterwarnings("ignore:.*expression-based index '?connection_email")
def test_the_migrations_make_what_the_tables_describe(opened: Opened) -> None:
    with opened.store.engine.connect() as sql:
        context = MigrationContext.configure(sql, opts={"compare_type": False})
        differences = compare_metadata(context, metadata)
        is_postgres = sql.dialect.name == "postgresql"
    assert [each for each in differences if not (is_postgres and is_of_days(each))] == []


def is_of_days(difference: Any) -> bool:
    """Whether it is only that a table in days has partitions, and keys and indexes in each of them."""
    if isinstance(difference, list):
        return False
    _, item = difference
    names = {item.name} if isinstance(item, Table) else {item.table.name}
    if isinstance(item, ForeignKeyConstraint):
        names.add(item.referred_table.name)
    is_partition = any(partition_name.fullmatch(name) for name in names)
    return is_partition or (not isinstance(item, Table | Column) and not names.isdisjoint(parents))


def test_the_requests_of_the_last_minute_count_on_after_the_migration_that_counts_them(empty_url: str) -> None:
    engine = open_engine(Secret(empty_url))
    with engine.begin() as sql:
        config = alembic_config()
        config.attributes["connection"] = sql
        command.upgrade(config, "0013")
        recent = ["2026-03-01T12:00:00.100000+00:00", "2026-03-01T12:00:00.900000+00:00", "2026-03-01T12:00:07+00:00"]
        before = text("INSERT INTO pace (provider, recent) VALUES ('breezedoc', :recent)")
        sql.execute(before, {"recent": json.dumps(recent)})
        command.upgrade(config, "0014")
    store = Store(engine)
    with store.reading() as tx:
        assert tx.paces.get("breezedoc") == Pace({1772366400: 2, 1772366407: 1})
    store.close()


def test_a_database_without_a_schema_is_not_ready(empty_url: str) -> None:
    store = Store(open_engine(Secret(empty_url)))
    with pytest.raises(SyncError):
        store.check()
    store.close()


def test_the_views_read_records_whose_types_wobble(opened: Opened) -> None:
    connection = add_connection(opened.store)
    odd = {"id": 7, "title": False, "created_at": "yesterday", "completed_at": 17, "recipients": {"a": 1}}
    even = {
        "id": 8,
        "title": "A lease",
        "created_at": "2026-03-01T12:00:00.000000Z",
        "recipients": [{"id": 1, "completed_at": "2026-03-01T12:00:00Z"}, {"id": 2, "completed_at": None}],
    }
    senseless = {
        "id": 9,
        "created_at": "0000-00-00 00:00:00",
        "updated_at": "2024-02-31T12:00:00Z",
        "completed_at": "2024-13-45T99:99:99Z",
        "recipients": ["abc", 7, None],
    }
    late = {"id": 9, "created_at": "2026-03-01 24:61", "completed_at": "2026-03-01T12:00 nonsense", "recipients": "abc"}
    with opened.store.writing() as tx:
        for external_id, data in (("7", odd), ("8", even), ("9", senseless), ("91", late)):
            new = (Item(external_id, data, hash_content(data)),)
            tx.records.write(connection.id, RecordChanges("document", "document", new), connection.created_at)
    with opened.store.reading() as tx:
        rows = tx.sql.execute(text("SELECT * FROM breezedoc_document ORDER BY external_id")).mappings().all()
    assert [(row["external_id"], row["user_id"]) for row in rows] == [(each, "ada") for each in ("7", "8", "9", "91")]
    assert rows[1]["title"] == "A lease"
    for view in opened.profile.views:
        with opened.store.reading() as tx:
            tx.sql.execute(text(f"SELECT * FROM {opened.profile.view_name(view)}")).all()
