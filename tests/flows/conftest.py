"""The house that flows are tested in: on SQLite, and on PostgreSQL too if the test is marked `both_databases`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import sandbox
from tests.databases import create_sqlite
from tests.event_assertions import assert_events_match_rows
from tests.harness import House, build_house


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
    """Whatever a test did, its rows and its events agree in the end."""
    yield
    assert_events_match_rows(house.store.engine)


@pytest.fixture
def house(migrated_url: str, provider: sandbox.Running, tmp_path: Path) -> Iterator[House]:
    built = build_house(migrated_url, provider, tmp_path / "spool")
    yield built
    built.close()


@pytest.fixture(scope="module")
def house_for_all(shared_provider: sandbox.Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One house on SQLite for all tests of a file, of which each has a user and an account of its own."""
    directory = tmp_path_factory.mktemp("house")
    # The tests of another file may have left it with another secret, or broken.
    shared_provider.control.reset()
    built = build_house(create_sqlite(directory / "breezesync.db"), shared_provider, directory / "spool")
    yield built
    built.close()
