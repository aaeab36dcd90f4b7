"""An empty, migrated database for each test: once on SQLite, once on PostgreSQL."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from config.profiles import profile_directories, read_profile
from models.oauth.authorization import Authorization, Step, hash_of
from models.oauth.connection import Connection, Status
from models.oauth.credential import Credential
from models.provider import Provider
from models.store import Store
from tests.databases import BOTH, open_fast_engine
from tests.event_assertions import assert_all_described
from tests.servers import Postgres

noon = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Opened:
    """A database, and a second way into it, as another process would have."""

    url: str
    profile: Provider
    store: Store
    other: Store


@pytest.fixture(scope="session")
def profile() -> Provider:
    return read_profile("breezedoc", {}, profile_directories())


@pytest.fixture(params=BOTH)
def database(request: pytest.FixtureRequest) -> str:
    """The store's contract is the same on both."""
    kind: str = request.param
    return kind


@pytest.fixture
def empty_url(request: pytest.FixtureRequest, database: str, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without a schema."""
    if database == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def opened(migrated_url: str, profile: Provider) -> Iterator[Opened]:
    store, other = Store(open_fast_engine(migrated_url)), Store(open_fast_engine(migrated_url))
    yield Opened(migrated_url, profile, store, other)
    assert_all_described(migrated_url)
    store.close()
    other.close()


@pytest.fixture
def store(opened: Opened) -> Store:
    return opened.store


def a_connection(user: str = "ada", account: str = "1", **fields: object) -> Connection:
    values: dict[str, object] = {
        "id": uuid4().hex,
        "user_id": user,
        "provider": "breezedoc",
        "client_id": "client-1",
        "account_id": account,
        "status": Status.active,
        "created_at": noon,
    }
    return Connection(**(values | fields))  # type: ignore[arg-type]


def add_connection(store: Store, user: str = "ada", account: str = "1", **fields: object) -> Connection:
    """A stored connection with a credential that holds nothing yet."""
    connection = a_connection(user, account, **fields)
    with store.writing() as tx:
        tx.connections.add(connection)
        tx.credentials.put(Credential(connection.id, None, None))
    return connection


def an_authorization(state: str = "state", user: str = "ada", **fields: object) -> Authorization:
    values: dict[str, object] = {
        "id": uuid4().hex,
        "provider": "breezedoc",
        "client_id": "client-1",
        "user_id": user,
        "redirect_uri": "http://localhost/callback",
        "step": Step.started,
        "state_hash": hash_of(state),
        "browser_hash": hash_of("browser"),
        "created_at": noon,
        "expires_at": noon + timedelta(minutes=10),
    }
    return Authorization(**(values | fields))  # type: ignore[arg-type]
