"""The fleet that every journey passes through, once on SQLite and once on PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Fleet, Listener, running_fleet
from tests.servers import Postgres, running_valkey


@pytest.fixture(scope="package", params=["sqlite", "postgresql"])
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Web, one worker and two schedulers on a Valkey of their own; journeys share it, each with a user of its own."""
    directory: Path = tmp_path_factory.mktemp("fleet")
    with running_valkey() as valkey:
        if request.param == "sqlite":
            with running_fleet(f"sqlite:///{directory}/breezesync.db", valkey.url, directory, schedulers=2) as fleet:
                yield fleet
            return
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.create_database()
        with running_fleet(url, valkey.url, directory, schedulers=2) as fleet:
            yield fleet
        postgres.drop_database(url)


@pytest.fixture
def listener(fleet: Fleet) -> Iterator[Listener]:
    """The application's ear, open before anything happens."""
    opened = Listener(fleet.redis_url)
    yield opened
    opened.close()
