"""Check every event that a test caused: its schema describes all of it, and rows and events agree."""

import json
import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from jsonschema import Draft7Validator
from sqlalchemy import Connection, Engine, create_engine, select, text
from sqlalchemy.pool import NullPool

from models.messaging.schemas import fact_types, schema_of
from models.store.rows import table_of
from models.store.tables import EventRow, SyncRunRow
from models.sync.sync_run import fill_in_zeros, has_changes

table = table_of(EventRow)
runs = table_of(SyncRunRow)


KEYWORDS = {
    *("type", "const", "enum", "required", "properties", "additionalProperties", "pattern", "minLength", "items"),
    *("minimum", "description", "format", "$schema", "$id", "title"),
}
"""What an event's schema is written with. `Distinctions` has to know each; the last five say nothing of a value."""
accepted: set[tuple[str, Hashable]] = set()
"""The type and the shape of each event that matched its schema."""


class Distinctions:
    """What one schema can tell two values apart by."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.literals: set[Any] = set()
        self.patterns: set[str] = set()
        self.lengths = {1}
        self.minimums: set[float] = {0}
        self._collect(schema)

    def _collect(self, schema: Mapping[str, Any]) -> None:
        assert schema.keys() <= KEYWORDS, f"shape_of does not know {schema.keys() - KEYWORDS}"
        self.literals |= {*schema.get("enum", ()), *([schema["const"]] if "const" in schema else ())}
        self.patterns |= {schema["pattern"]} if "pattern" in schema else set()
        self.lengths |= {schema["minLength"]} if "minLength" in schema else set()
        self.minimums |= {schema["minimum"]} if "minimum" in schema else set()
        nested = (schema.get("additionalProperties"), schema.get("items"), *schema.get("properties", {}).values())
        for part in nested:
            if isinstance(part, dict):
                self._collect(part)

    def shape_of(self, value: Any) -> Hashable:
        """Return the same for two values if the schema accepts either both or none of them."""
        match value:
            case dict():
                return tuple(sorted((key, self.shape_of(part)) for key, part in value.items()))
            case list():
                return "list", frozenset(map(self.shape_of, value))
            case str() if value not in self.literals:
                matched = tuple(pattern for pattern in self.patterns if re.search(pattern, value))
                return "str", matched, tuple(len(value) >= length for length in self.lengths)
            case int() | float() if not isinstance(value, bool) and value not in self.literals:
                return type(value).__name__, value % 1 == 0, tuple(value >= least for least in self.minimums)
        return type(value).__name__, value


@cache
def validator(type_: str) -> tuple[Draft7Validator, Distinctions]:
    assert type_ in fact_types(), f"no schema describes the event {type_}"
    schema = schema_of(type_, strict=True)
    return Draft7Validator(schema), Distinctions(schema)


def assert_described(type_: str, document: str) -> None:
    """Raise AssertionError if the CloudEvents document does not match its type's schema.

    Of events that the schema can't tell apart one is validated, because that takes long.
    """
    event = json.loads(document)
    checked, distinctions = validator(type_)
    shape = type_, distinctions.shape_of(event)
    if shape not in accepted:
        problems = [f"{'.'.join(map(str, each.path))}: {each.message}" for each in checked.iter_errors(event)]
        assert not problems, f"{type_}: {problems}\n{document}"
        accepted.add(shape)
    assert datetime.fromisoformat(event["time"]).tzinfo is not None


def open_database(database: Engine | str) -> Engine:
    return create_engine(database, poolclass=NullPool) if isinstance(database, str) else database


def assert_all_described(database: Engine | str) -> int:
    """Check every event in this database; return how many there were."""
    with open_database(database).connect() as sql:
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
end_of_run = {"completed": "sync.completed", "failed": "sync.failed"}


@dataclass(frozen=True, slots=True)
class Emitted:
    """One event of the outbox."""

    type: str
    subject: str
    data: Mapping[str, Any]


def assert_events_match_rows(database: Engine | str) -> None:
    """Raise AssertionError if a state has no event, or two: generations, statuses, runs, authorizations and records."""
    with open_database(database).connect() as sql:
        rows = sql.execute(select(table).order_by(table.c.position))
        events = [Emitted(row.type, row.subject, json.loads(row.document)["data"]) for row in rows]
        _check_connections(sql, events)
        _check_runs(sql, events)
        _check_authorizations(sql, events)
        _check_records(sql, events)


def _check_connections(sql: Connection, events: Sequence[Emitted]) -> None:
    unpublished = text("SELECT count(*) FROM revocation WHERE connection_id = :id AND tells")
    for row in sql.execute(text("SELECT id, status, generation FROM connection")).all():
        own = [event.type for event in events if event.subject == row.id and event.type in status_after]
        pairs = [type_ for type_ in own if status_after[type_] == "active"]
        assert len(pairs) == row.generation, f"connection {row.id}: generation {row.generation}, events {own}"
        waits = sql.execute(unpublished, {"id": row.id}).scalar_one()
        newest = status_after[own[-1]] if own else "active"
        assert row.status == ("disconnected" if waits else newest), f"connection {row.id}: {row.status}, events {own}"


def _check_runs(sql: Connection, events: Sequence[Emitted]) -> None:
    """A run that no one asked for and that found nothing is not published, unless it is its connection's first."""
    for run in sql.execute(select(runs.c.id, runs.c.status, runs.c.requested, runs.c.counts)):
        ends = [event.type for event in events if event.data.get("run_id") == run.id]
        expected = [end_of_run[run.status]] if run.status in end_of_run else []
        is_silent = run.status == "completed" and not run.requested and not has_changes(fill_in_zeros(run.counts))
        assert ends == expected or (is_silent and not ends), f"run {run.id}: {run.status}, {ends}"


def _check_authorizations(sql: Connection, events: Sequence[Emitted]) -> None:
    for flow in sql.execute(text('SELECT id, step FROM "authorization"')):
        failures = sum(event.data.get("authorization_id") == flow.id for event in events)
        assert failures == (flow.step in ("failed", "denied")), f"authorization {flow.id}: {flow.step}, {failures}"


def _check_records(sql: Connection, events: Sequence[Emitted]) -> None:
    """Count living records by connection and resource; erased ones are deleted without an event each."""
    erased = set(sql.execute(text("SELECT subject FROM decision WHERE verb = 'records.erased'")).scalars())
    living = "SELECT connection_id, resource, count(*) AS living FROM record WHERE deleted_at IS NULL GROUP BY 1, 2"
    stored = Counter({(row.connection_id, row.resource): row.living for row in sql.execute(text(living))})
    counted: Counter[tuple[str, str]] = Counter()
    for event in events:
        change = {"record.created": 1, "record.deleted": -1}.get(event.type, 0)
        if change:
            counted[event.subject, event.data["resource"]] += change
    for key in {*stored, *counted}:
        if key[0] not in erased:
            assert stored[key] == counted[key], f"records {key}: {stored[key]}, {counted[key]}"
