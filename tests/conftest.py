"""The servers that any test may ask for by name."""

import gc
from collections.abc import Iterable, Iterator
from pathlib import Path

import certifi
import hypothesis
import pytest
from playwright.sync_api import Browser
from sqlalchemy import make_url

from tests.databases import DATABASES, create_sqlite, create_template
from tests.openbao import OpenBao, running_openbao
from tests.servers import Postgres, Valkey, running_chromium, running_postgres, running_valkey

# How long an example takes depends on what else the machine does; a test that hangs is ended by pytest-timeout.
hypothesis.settings.register_profile("breezesync", deadline=None)
hypothesis.settings.load_profile("breezesync")

MEASURED = frozenset({"unit", "config", "store", "wiring", "flows", "cli"})
"""The folders whose tests run the shipped code in this process, so that its coverage can be measured."""
ONE_CASE = frozenset({"cli", "flows", "wiring"})
"""The folders of which one case of each test is measured."""
LONG = frozenset({"bench", "cli", "examples", "hostile_input", "journey", "torture", "wiring"})
"""The folders whose tests start processes, or wait."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files in an order in which those whose tests wait run beside those that compute.

    Measure coverage only if a test is likely to add to it: tracing makes a test half as fast. Of a flow's cases the
    first is measured: the others run much the same lines, on PostgreSQL too. What differs between the two databases is
    in the store, and that is measured on both. So the figure is a lower bound.
    """
    seen: set[tuple[Path, str]] = set()
    for item in items:
        folder = _folder(item.path)
        test = (item.path, getattr(item, "originalname", item.name))
        if folder not in MEASURED or (folder in ONE_CASE and test in seen):
            item.add_marker(pytest.mark.no_cover)
        seen.add(test)
    places = place_files(dict.fromkeys(item.path for item in items))
    items.sort(key=lambda item: places[item.path])


def place_files(files: Iterable[Path]) -> dict[Path, float]:
    """Return the place of each file, from 0 to 1. Those that take long are through a little earlier, so that no process
    has one left when the others are done."""
    groups: tuple[list[Path], list[Path]] = ([], [])
    for path in files:
        groups[_folder(path) in LONG].append(path)
    ends = (1.0, 0.8)
    return {
        path: end * place / len(group)
        for end, group in zip(ends, groups, strict=True)
        for place, path in enumerate(group)
    }


def pytest_collection_finish() -> None:
    """Leave what was imported out of garbage collection: it stays to the end, and to go through it takes long."""
    gc.collect()
    gc.freeze()


def _folder(path: Path) -> str:
    return path.relative_to(Path(__file__).parent).parts[0]


@pytest.fixture(scope="session", autouse=True)
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trust the first of certifi's authorities only: httpx reads all of them for each client, in 25 ms, and no test
    asks a server that any of them vouches for."""
    end = "-----END CERTIFICATE-----\n"
    path = tmp_path_factory.mktemp("authorities") / "first.pem"
    path.write_text(Path(certifi.where()).read_text("utf-8").split(end)[0] + end, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certifi, "where", lambda: str(path))
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            patch.delenv(name, raising=False)
        yield


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
def postgres_template(postgres: Postgres) -> Iterator[str]:
    """The name of a migrated PostgreSQL database, to be copied."""
    url = create_template(postgres)
    yield make_url(url).database or ""
    postgres.drop_database(url)


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    """The kind of database that `migrated_url` is on; `both_databases` names both."""
    kind: str = request.param
    return kind


@pytest.fixture
def migrated_url(request: pytest.FixtureRequest, database: str, tmp_path: Path) -> Iterator[str]:
    """The URL of a database of this test's own that has the schema and nothing in it."""
    if database == "sqlite":
        yield create_sqlite(tmp_path / "breezesync.db")
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    url = postgres.create_database(request.getfixturevalue("postgres_template"))
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


@pytest.fixture(scope="session")
def openbao() -> Iterator[OpenBao]:
    """One OpenBao for all tests; `new_key` gives a test a key of its own."""
    with running_openbao() as server:
        yield server


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A headless Chromium; without one the test is skipped, and fails in CI."""
    with running_chromium() as chromium:
        yield chromium
