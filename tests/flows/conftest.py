"""The house that flows are tried in, once on SQLite and once on PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import sandbox
from tests.event_assertions import assert_all_told
from tests.harness import House, build_house
from tests.servers import Postgres


@pytest.fixture(scope="session")
def shared_provider() -> Iterator[sandbox.Running]:
    with sandbox.running() as running:
        yield running


@pytest.fixture
def provider(shared_provider: sandbox.Running) -> sandbox.Running:
    """A sandbox as new."""
    shared_provider.control.reset()
    return shared_provider


@pytest.fixture
def everything_is_told(house: House) -> Iterator[None]:
    """Whatever a test did, in the end its rows and its events say the same."""
    yield
    assert_all_told(house.store.engine)


@pytest.fixture(params=["sqlite", "postgresql"])
def house(request: pytest.FixtureRequest, provider: sandbox.Running, tmp_path: Path) -> Iterator[House]:
    if request.param == "sqlite":
        built = build_house(f"sqlite:///{tmp_path}/breezesync.db", provider, tmp_path / "spool")
        yield built
        built.close()
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    url = postgres.create_database()
    built = build_house(url, provider, tmp_path / "spool")
    yield built
    built.close()
    postgres.drop_database(url)
