"""Expand and contract: what the previous release reads and writes is there after every migration of this one."""

from collections.abc import Iterator
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection, inspect

from models.crypto.secrets import Secret
from models.migrations import alembic_config
from models.store import open_engine
from tests.releases import previous_release

Column = tuple[str, str]


def columns_of(sql: Connection) -> dict[Column, Any]:
    found = inspect(sql)
    return {(table, column["name"]): column for table in found.get_table_names() for column in found.get_columns(table)}


def judge(before: dict[Column, Any], after: dict[Column, Any]) -> Iterator[str]:
    """Say what the previous release would miss, or could not write any more."""
    for place, was in before.items():
        column = after.get(place)
        if column is None:
            yield f"{'.'.join(place)} is gone"
        elif str(column["type"]) != str(was["type"]):
            yield f"{'.'.join(place)} was {was['type']} and is {column['type']}"
        elif was["nullable"] and not column["nullable"]:
            yield f"{'.'.join(place)} may be empty no longer"
    tables = {table for table, _ in before}
    for place in after.keys() - before.keys():
        column = after[place]
        if place[0] in tables and not column["nullable"] and column["default"] is None:
            yield f"{'.'.join(place)} is new, has no default, and may not be empty"


def test_the_previous_release_finds_all_it_reads_and_may_leave_out_what_is_new(empty_url: str) -> None:
    engine = open_engine(Secret(empty_url))
    _, schema = previous_release()
    with engine.begin() as sql:
        config = alembic_config()
        config.attributes["connection"] = sql
        command.upgrade(config, schema)
        before = columns_of(sql)
        command.upgrade(config, "head")
        after = columns_of(sql)
    engine.dispose()
    assert before
    assert list(judge(before, after)) == []


def column(type_: str = "TEXT", *, nullable: bool = False, default: str | None = None) -> dict[str, Any]:
    return {"type": type_, "nullable": nullable, "default": default}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({}, {("t", "b"): column(nullable=True)}, []),
        ({}, {("t", "b"): column(default="0")}, []),
        ({}, {("t", "b"): column()}, ["t.b is new, has no default, and may not be empty"]),
        ({}, {("new", "b"): column()}, []),
        ({("t", "b"): column()}, {}, ["t.b is gone"]),
        ({("t", "b"): column()}, {("t", "b"): column("INTEGER")}, ["t.b was TEXT and is INTEGER"]),
        ({("t", "b"): column(nullable=True)}, {("t", "b"): column()}, ["t.b may be empty no longer"]),
    ],
    ids=["empty", "default", "obligatory", "new table", "dropped", "other type", "not null"],
)
def test_what_would_break_the_previous_release_is_named(
    before: dict[Column, Any], after: dict[Column, Any], said: list[str]
) -> None:
    kept = {("t", "a"): column()}
    assert list(judge(kept | before, kept | after)) == said
