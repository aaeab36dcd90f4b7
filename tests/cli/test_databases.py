"""What `migrate` and `doctor` say of a PostgreSQL that can't be used: a sentence for each trouble, and its remedy."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

import sandbox
from models.crypto.secrets import Secret
from models.migrations import migrating
from models.store import open_engine
from tests.cli.conftest import Desk, set_up
from tests.servers import PostgresServer, own_postgres, postgres_user


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL whose roles and databases are these tests' own."""
    with own_postgres(postgres_user(), default_transaction_isolation="serializable") as started:
        yield started


@pytest.fixture
def desk(
    server: PostgresServer,
    shared_provider: sandbox.Running,
    redis_url: str,
    bare_environment: Mapping[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Desk]:
    """A desk at this server; which database it is, each test says."""
    opened = set_up(shared_provider, url_of(server), redis_url, tmp_path, monkeypatch)
    yield opened
    for provider in opened.house.flows.refresh.providers.values():
        provider.close()
    opened.house.store.close()


def run(server: PostgresServer, *statements: str, database: str = "postgres") -> None:
    address = server.url.set(drivername="postgresql", database=database).render_as_string(False)
    with psycopg.connect(address, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def url_of(server: PostgresServer, database: str = "postgres", user: str = "breezesync", **query: str) -> str:
    url = server.url.set(database=database, username=user)
    return make_url(url).update_query_dict(query).render_as_string(False)


def complaints(desk: Desk, url: str) -> tuple[str, str]:
    """What `migrate` and `doctor` say of the database."""
    desk.set(DATABASE_URL=url)
    migrated = desk.type("migrate")
    assert (migrated.exit_code, migrated.stdout) == (1, "")
    checks = desk.read("doctor", code=1)["checks"]
    found = next(check for check in checks if check["check"] == "database")
    assert found["state"] == "failed"
    return migrated.stderr, f"{found['said']}. {found['remedy']}"


def assert_both_say(desk: Desk, url: str, *parts: str) -> None:
    for said in complaints(desk, url):
        assert [part for part in parts if part not in said] == [], said
        assert "does not answer" not in said


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_another_encoding(desk: Desk, server: PostgresServer, encoding: str) -> None:
    name = f"in_{encoding.lower()}"
    run(server, f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    assert_both_say(desk, url_of(server, name), f"has the encoding {encoding}", "createdb -E UTF8")


def test_a_role_without_create(desk: Desk, server: PostgresServer) -> None:
    run(server, "CREATE ROLE reader LOGIN", "CREATE DATABASE forbidden")
    assert_both_say(
        desk,
        url_of(server, "forbidden", "reader"),
        "does not let role reader create tables in schema public",
        "GRANT CREATE ON SCHEMA public TO reader",
    )


def test_an_unknown_role_and_an_unknown_database(desk: Desk, server: PostgresServer) -> None:
    assert_both_say(desk, url_of(server, user="nobody_knows"), "has no role nobody_knows", "Create the role")
    assert_both_say(desk, url_of(server, "nowhere"), "nowhere does not exist", "createdb -E UTF8")


def test_a_search_path_without_a_schema(desk: Desk, server: PostgresServer) -> None:
    run(server, "CREATE DATABASE pathless")
    url = url_of(server, "pathless", options="-csearch_path=missing")
    assert_both_say(desk, url, "has no schema that search_path (missing) names", "Create the schema")


def test_a_newer_revision(desk: Desk, server: PostgresServer) -> None:
    run(server, "CREATE DATABASE newer")
    run(
        server,
        "CREATE TABLE alembic_version (version_num varchar(32))",
        "INSERT INTO alembic_version VALUES ('9999')",
        database="newer",
    )
    assert_both_say(desk, url_of(server, "newer"), "has schema 9999, which a newer version", "Run that version")


def test_the_options_of_the_url_reach_the_server(desk: Desk, server: PostgresServer) -> None:
    run(server, "CREATE DATABASE apart")
    run(server, "CREATE SCHEMA tenant", database="apart")
    desk.set(DATABASE_URL=url_of(server, "apart", options="-csearch_path=tenant"))
    assert desk.type("migrate").exit_code == 0
    address = server.url.set(drivername="postgresql", database="apart").render_as_string(False)
    with psycopg.connect(address) as connection:
        found = connection.execute(
            "SELECT schemaname, count(*) FROM pg_tables WHERE tablename = 'connection' GROUP BY 1"
        )
        assert found.fetchall() == [("tenant", 1)]
    checks = desk.read("doctor", code=0)["checks"]
    assert next(check for check in checks if check["check"] == "database")["state"] == "ok"


def test_an_option_that_libpq_does_not_know_is_named(desk: Desk, server: PostgresServer) -> None:
    desk.set(DATABASE_URL=url_of(server, serach_path="tenant"))
    result = desk.type("migrate")
    assert (result.exit_code, "serach_path" in result.stderr) == (1, True)


def test_a_migration_that_takes_its_time_is_not_ended(server: PostgresServer) -> None:
    """The limit on idle transactions is for the fleet's, not for a migration that computes between two statements."""
    engine = open_engine(Secret(url_of(server)))
    with migrating(engine) as sql:
        assert sql.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar_one() == "0"
        assert sql.exec_driver_sql("SHOW transaction_isolation").scalar_one() == "read committed"
    with engine.begin() as sql:
        assert sql.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar_one() == "10s"
        assert sql.exec_driver_sql("SHOW transaction_isolation").scalar_one() == "read committed"
    engine.dispose()
