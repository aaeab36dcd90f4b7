"""Holds every event that a test caused to the schema of its type, in which nothing may be that is not described."""

import json
from datetime import datetime
from functools import cache

from jsonschema import Draft7Validator
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.pool import NullPool

from models.schemas import fact_types, schema_of
from models.store.rows import table_of
from models.tables import EventRow

table = table_of(EventRow)


@cache
def validator(type_: str) -> Draft7Validator:
    assert type_ in fact_types(), f"nobody described the event {type_}"
    return Draft7Validator(schema_of(type_, strict=True))


def assert_described(type_: str, document: str) -> None:
    """AssertionError where the CloudEvents document is not what its type's schema says."""
    event = json.loads(document)
    problems = [f"{'.'.join(map(str, each.path))}: {each.message}" for each in validator(type_).iter_errors(event)]
    assert not problems, f"{type_}: {problems}\n{document}"
    assert datetime.fromisoformat(event["time"]).tzinfo is not None


def assert_all_described(database: Engine | str) -> int:
    """Every event in this database; returns how many there were."""
    engine = create_engine(database, poolclass=NullPool) if isinstance(database, str) else database
    with engine.connect() as sql:
        rows = sql.execute(select(table.c.type, table.c.document)).all()
    for type_, document in rows:
        assert_described(type_, document)
    return len(rows)
