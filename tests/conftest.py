"""The servers that any test may ask for by name."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.servers import Postgres, Valkey, running_chromium, running_postgres, running_valkey


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for all tests; `create_database` gives a test, or a template, a database of its own."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """The `postgresql+psycopg://` URL of an empty database of this test's own."""
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """One Valkey for all tests: not to be stopped, and to be asked for through `redis_url`."""
    with running_valkey() as server:
        yield server


@pytest.fixture
def redis_url(valkey: Valkey) -> str:
    """The URL of a Valkey that holds nothing yet."""
    valkey.flush()
    return valkey.url


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """A persistent Valkey of this test's own, running, to stop, kill and start again on its port."""
    with running_valkey(persistent=True) as server:
        yield server


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A headless Chromium; skips the test where there is none."""
    with running_chromium() as chromium:
        yield chromium
