"""What people sign is nobody's business who reads a log: record contents in every place that keeps an error's text."""

import json
import logging
import traceback
from urllib.parse import quote

import pytest
import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from models.errors import SyncError
from models.oauth.connection import Connection
from tests.databases import BOTH
from tests.debug_log import logging_everything
from tests.harness import House

title = "Settlement with Boris Canary about the vineyard"
email = "boris.canary@example.org"

pytestmark = pytest.mark.parametrize("database", BOTH)

refusals: dict[str, dict[str, tuple[str, ...]]] = {
    "a row that a constraint forbids": {
        "postgresql": ("ALTER TABLE record ADD CONSTRAINT refused CHECK (strpos(data::text, 'Canary') = 0) NOT VALID",),
        "sqlite": (
            "CREATE TRIGGER refused BEFORE INSERT ON record WHEN instr(new.data, 'Canary') "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END",
        ),
    },
    "a value that is none": {
        "postgresql": (
            "CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN PERFORM (new.data->>'title')::integer; END $$ "
            "LANGUAGE plpgsql",
            "CREATE TRIGGER refused BEFORE INSERT ON record FOR EACH ROW EXECUTE FUNCTION refuse()",
        ),
        "sqlite": ("ALTER TABLE record RENAME COLUMN data TO was",),
    },
    "a sentence that repeats the row": {
        "postgresql": (
            "CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'no %', new; END $$ LANGUAGE plpgsql",
            "CREATE TRIGGER refused BEFORE INSERT ON record FOR EACH ROW EXECUTE FUNCTION refuse()",
        ),
        "sqlite": ("CREATE UNIQUE INDEX refused ON record (resource)",),
    },
    "a table that is gone": {"postgresql": ("ALTER TABLE record RENAME TO was",), "sqlite": ("DROP TABLE record",)},
}
"""Statements that have the database refuse the next records."""


def with_contents(house: House) -> Connection:
    """A connection whose account has a document of this title, which its user has not read yet."""
    account = house.control.add_user("Boris Canary", documents=2, email=email)
    connection = house.connect("ada", account)
    house.control.add_documents(account, 1, title=title)
    return connection


def forms() -> list[str]:
    said = [title, "Canary", email]
    return [*said, *map(quote, said), *(json.dumps(each)[1:-1] for each in said)]


def found(places: dict[str, str]) -> list[tuple[str, str]]:
    return [(place, form) for place, held in places.items() for form in forms() if form in held]


@pytest.mark.parametrize("case", refusals)
def test_a_refused_statement_repeats_no_contents(house: House, database: str, case: str) -> None:
    connection = with_contents(house)
    with house.store.engine.begin() as sql:
        for statement in refusals[case][database]:
            sql.execute(text(statement))
    kept: list[str] = []
    with logging_everything() as log:
        for _ in range(2):
            try:
                house.flows.sync(connection.id)
            except (SyncError, SQLAlchemyError) as error:
                kept += traceback.format_exception(error)  # as a crash shows it, and as a dead letter keeps it
                kept.append(repr(error) + repr(error.__cause__))
                logging.getLogger("dramatiq").exception("failed")
                structlog.get_logger("sync").exception("failed", error=str(error), cause=error.__cause__)
    with house.store.engine.connect() as sql:
        journal = str(sql.execute(text("SELECT * FROM decision")).all())
    assert found({"log": log.getvalue(), "traceback": "\n".join(kept), "journal": journal}) == []


def test_the_refusal_says_which_table_and_which_constraint(house: House, database: str) -> None:
    connection = with_contents(house)
    with house.store.engine.begin() as sql:
        for statement in refusals["a row that a constraint forbids"][database]:
            sql.execute(text(statement))
    with pytest.raises(SyncError) as refused:
        house.flows.sync(connection.id)
    told = "".join(traceback.format_exception(refused.value))
    assert "refused" in told
    assert "INSERT INTO record" in told or database == "postgresql"


def test_a_life_without_trouble_logs_none_either(house: House, database: str) -> None:
    with logging_everything() as log:
        connection = with_contents(house)
        house.flows.sync(connection.id)
        house.work()
    with house.store.engine.connect() as sql:
        assert title in str(sql.execute(text("SELECT data FROM record")).all())
    assert found({"log": log.getvalue()}) == []
