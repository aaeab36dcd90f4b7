"""Holds every event that a test caused to the schema of its type, in which nothing may be that is not described."""

import json
from datetime import datetime
from functools import cache

from jsonschema import Draft7Validator
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.pool import NullPool

from models.messaging.schemas import fact_types, schema_of
from models.store.rows import table_of
from models.store.tables import EventRow

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


status_after = {
    "connection.authorized": "active",
    "connection.refreshed": "active",
    "connection.reauthorization_required": "revoked",
    "connection.disconnected": "disconnected",
}


def assert_all_told(database: Engine | str) -> None:
    """AssertionError where a state was not told, or told twice: what the rows say and what the events say must agree.

    Generations, statuses, runs, failed authorizations and living records are each counted on both sides.
    """
    engine = create_engine(database, poolclass=NullPool) if isinstance(database, str) else database
    with engine.connect() as sql:
        told = [
            (row.type, row.subject, json.loads(row.document)["data"])
            for row in sql.execute(select(table).order_by(table.c.position))
        ]
        for row in sql.execute(text("SELECT id, status, generation FROM connection")):
            own = [type_ for type_, subject, _ in told if subject == row.id and type_ in status_after]
            pairs = [type_ for type_ in own if status_after[type_] == "active"]
            assert len(pairs) == row.generation, f"connection {row.id}: generation {row.generation}, told {own}"
            untold = text("SELECT count(*) FROM revocation WHERE connection_id = :id AND tells")
            waits = sql.execute(untold, {"id": row.id}).scalar_one()
            newest = status_after[own[-1]] if own else "active"
            assert row.status == ("disconnected" if waits else newest), f"connection {row.id}: {row.status}, told {own}"
        ended = {"completed": "sync.completed", "failed": "sync.failed"}
        for run in sql.execute(text("SELECT id, status FROM sync_run")):
            ends = [type_ for type_, _, data in told if data.get("run_id") == run.id]
            assert ends == ([ended[run.status]] if run.status in ended else []), f"run {run.id}: {run.status}, {ends}"
        for flow in sql.execute(text('SELECT id, step FROM "authorization"')):
            failures = sum(data.get("authorization_id") == flow.id for _, _, data in told)
            assert failures == (flow.step in ("failed", "denied")), f"authorization {flow.id}: {flow.step}, {failures}"
        erased = set(sql.execute(text("SELECT subject FROM decision WHERE verb = 'records.erased'")).scalars())
        living = "SELECT connection_id, resource, count(*) AS living FROM record WHERE deleted_at IS NULL GROUP BY 1, 2"
        stored = {(row.connection_id, row.resource): row.living for row in sql.execute(text(living))}
        counted: dict[tuple[str, str], int] = {}
        for type_, subject, data in told:
            change = {"record.created": 1, "record.deleted": -1}.get(type_, 0)
            if change:
                counted[subject, data["resource"]] = counted.get((subject, data["resource"]), 0) + change
        for key in {*stored, *counted}:
            if key[0] not in erased:
                assert stored.get(key, 0) == counted.get(key, 0), (
                    f"records {key}: {stored.get(key)}, {counted.get(key)}"
                )
