"""The fleet that journeys pass through: on PostgreSQL, and on SQLite too if the database can make a difference."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.processes import Fleet, Listener, running_fleet
from tests.servers import Postgres, running_valkey


class Application(BaseHTTPRequestHandler):
    """The page that a browser comes back to in the end."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>The application</title><h1>The application</h1>")

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="package")
def application() -> Iterator[str]:
    """The origin of an application that links may lead back to."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Application) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


ON_POSTGRESQL_ONLY = frozenset({"test_browser", "test_commands", "test_life", "test_stopping"})
"""The journeys whose subject is not the database: what they do to it, `test_disaster` and the flows do on both."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Take the journeys of a file through a fleet on each database that matters to them."""
    if "fleet" in metafunc.fixturenames and not hasattr(metafunc.module, "fleet"):
        only_one = metafunc.module.__name__.rpartition(".")[2] in ON_POSTGRESQL_ONLY
        databases = ["postgresql"] if only_one else ["sqlite", "postgresql"]
        metafunc.parametrize("fleet", databases, indirect=True, scope="package")


@pytest.fixture(scope="package")
def fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, application: str
) -> Iterator[Fleet]:
    """Web, one worker and two schedulers on a Valkey of their own; journeys share it, each with a user of its own."""
    directory: Path = tmp_path_factory.mktemp("fleet")
    with running_valkey() as valkey:
        if request.param == "sqlite":
            url = f"sqlite:///{directory}/breezesync.db"
            with running_fleet(url, valkey.url, directory, schedulers=2, RETURN_ORIGINS=application) as fleet:
                yield fleet
            return
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.create_database()
        with running_fleet(url, valkey.url, directory, schedulers=2, RETURN_ORIGINS=application) as fleet:
            yield fleet
        postgres.drop_database(url)


@pytest.fixture
def listener(fleet: Fleet) -> Iterator[Listener]:
    """The application's ear, open before anything happens."""
    opened = Listener(fleet.redis_url)
    yield opened
    opened.close()
