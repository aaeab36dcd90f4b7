"""What docs/integrate.md gives to copy is right: its SQL runs, and its role sees no token."""

import re
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from tests.databases import migrate_database
from tests.processes import CHECKOUT

BLOCKS = re.findall(r"```sql\n(.*?)```", (CHECKOUT / "docs/integrate.md").read_text(), re.DOTALL)


@pytest.fixture
def database(postgres_url: str) -> str:
    """The schema as breezesync makes it."""
    migrate_database(postgres_url)
    return postgres_url


@pytest.fixture
def role(database: str) -> Iterator[str]:
    """The page's role, made by the page's statements, under a name that no one else has."""
    name = f"app_{uuid4().hex[:12]}"
    owner = make_url(database).set(drivername="postgresql").render_as_string(False)
    with psycopg.connect(owner, autocommit=True) as connection:
        for statement in statements("GRANT"):
            connection.execute(re.sub(r"\bapp\b", name, statement).encode())
        yield name
        connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


def statements(word: str) -> list[str]:
    """Those of the blocks in which the word stands."""
    return [one.strip() for block in BLOCKS if word in block for one in block.split(";") if one.strip()]


def test_the_queries_run_as_the_role_that_may_only_read(database: str, role: str) -> None:
    url = make_url(database).set(username=role, password="…")
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        assert [connection.execute(text(query)).all() for query in statements("SELECT title")] == [[], []]


@pytest.mark.parametrize(
    "statement", ["SELECT * FROM credential", "SELECT * FROM record", "DELETE FROM connection"], ids=lambda text: text
)
def test_the_role_reads_no_token_and_changes_nothing(database: str, role: str, statement: str) -> None:
    owner = make_url(database).set(drivername="postgresql", username=role, password="…").render_as_string(False)
    with psycopg.connect(owner) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.encode())
