"""A view's values: a time is in UTC, and one bad value is NULL and breaks no one's query."""

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text

from config.profiles import profile_directories, read_profile
from models import exact_json
from models.store.views import all_views
from models.sync.records import Item, Json, RecordChanges, hash_content
from tests.store.conftest import Opened, add_connection

bad_times = (
    "2026-03-01T12:00:00+16:00",
    "2026-03-01T12:00:00+05:",
    "2026-03-01T12:00:00." + "1" * 140 + "Z",
    "0001-01-01T00:00:00Z",
    "0001-01-01 00:00:00",
    "9999-12-31T23:59:59Z",
    "2026-02-31T12:00:00Z",
    "2026-03-01T24:00:00Z",
    "yesterday",
    17,
    True,
    {"a": 1},
)


def store_document(opened: Opened, connection_id: str, external_id: str, data: Json) -> None:
    new = (Item(external_id, data, hash_content(data)),)
    with opened.store.writing() as tx:
        at = tx.overview.time()
        tx.records.write(connection_id, RecordChanges("document", "document", new), at)


def test_the_views_of_every_profile_that_is_shipped_can_be_queried(opened: Opened, database: Any) -> None:
    directory = profile_directories()[1]
    profiles = [read_profile(path.stem, {}, [directory]) for path in directory.glob("*.toml")]
    with opened.store.engine.begin() as sql:
        for name, drop, create in all_views(profiles, database):
            sql.execute(text(drop))
            sql.exec_driver_sql(create)
            assert sql.execute(text(f"SELECT count(*) FROM {name}")).scalar() == 0


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def test_a_time_without_a_zone_is_utc(opened: Opened, database: str, zone: str) -> None:
    connection = add_connection(opened.store)
    times = ("2026-03-01T12:00:00", "2026-03-01 12:00:00", "2026-03-01T12:00:00Z", "2026-03-01T14:00:00+02:00")
    for number, each in enumerate(times):
        store_document(opened, connection.id, str(number), {"id": number, "created_at": each})
    found = "created_at" if database == "sqlite" else "extract(epoch FROM created_at)::bigint"
    with opened.store.reading() as tx:
        if database == "postgresql":
            tx.sql.execute(text(f"SET LOCAL TIME ZONE '{zone}'"))
        values = tx.sql.execute(text(f"SELECT {found} FROM breezedoc_document")).scalars().all()
    assert len(values) == len(times)
    assert set(values) == {"2026-03-01T12:00:00.000Z" if database == "sqlite" else 1772366400}


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def test_a_bad_time_is_null(opened: Opened, database: str, zone: str) -> None:
    connection = add_connection(opened.store)
    for number, each in enumerate(bad_times):
        store_document(opened, connection.id, str(number), {"id": number, "created_at": each})
    with opened.store.reading() as tx:
        if database == "postgresql":
            tx.sql.execute(text(f"SET LOCAL TIME ZONE '{zone}'"))
        query = text("SELECT external_id, created_at FROM breezedoc_document")
        values = {row.external_id: row.created_at for row in tx.sql.execute(query)}
    assert values == {str(number): None for number in range(len(bad_times))}


def test_a_number_of_another_type_is_null(opened: Opened) -> None:
    connection = add_connection(opened.store)
    for number, each in enumerate(("7", True, [1], None)):
        store_document(opened, connection.id, str(number), {"id": each})
    with opened.store.reading() as tx:
        assert set(tx.sql.execute(text("SELECT id FROM breezedoc_document")).scalars()) == {None}


def test_a_record_s_numbers_come_back_with_every_digit(opened: Opened) -> None:
    connection = add_connection(opened.store)
    data = exact_json.loads('{"id": 1, "a": 1234567890.12345678901, "b": 12345678901234567890.0, "c": 1e23}')
    assert isinstance(data, dict)
    store_document(opened, connection.id, "1", data)
    with opened.store.reading() as tx:
        known = tx.records.known(connection.id, "document", ["1"])["1"]
    assert str(known.data["a"]) == "1234567890.12345678901"
    assert known.data["b"] == Decimal("12345678901234567890.0")
    assert known.data["c"] == 10**23
    assert hash_content(known.data) == hash_content(data)
