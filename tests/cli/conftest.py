"""An operator's desk: a real database, Valkey and sandbox, the settings that name them, and a way to type commands."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import redis
import typer
from typer.main import get_command
from typer.testing import CliRunner, Result

import sandbox
from config.profiles import profile_directories, read_profile
from models.crypto.vault import Vault, new_key
from models.store import Store
from tests.databases import create_sqlite, open_fast_engine
from tests.harness import Clock, House, join_house, link_secret
from tests.servers import Postgres, plain_environment
from worker.__main__ import build_app


@cache
def command_line() -> typer.Typer:
    """The command line; to build it takes longer than most commands do, and no command changes it."""
    return build_app()


@pytest.fixture(scope="session", autouse=True)
def built_once() -> Iterator[None]:
    """Let `CliRunner` read the functions' signatures once, and not for each command that is typed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.testing._get_command", cache(get_command))
        yield


@dataclass
class Desk:
    """`house` is what the commands find: the same database, the same keys, the same provider."""

    house: House
    environment: dict[str, str]
    directory: Path
    monkeypatch: pytest.MonkeyPatch

    def type(self, *words: str) -> Result:
        """Run one command in this process; AssertionError if it ends in a traceback."""
        result = CliRunner().invoke(command_line(), words, prog_name="breezesync")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise AssertionError(f"{words} ended in a traceback") from result.exception
        return result

    def read(self, *words: str, code: int = 0) -> Any:
        """Return what the command prints with `--json`."""
        result = self.type(*words, "--json")
        assert result.exit_code == code, (result.exit_code, result.output)
        return json.loads(result.stdout)

    def set(self, **variables: str) -> None:
        """Change the settings of the commands that are typed from now on."""
        for name, value in variables.items():
            self.monkeypatch.setenv(name, value)

    @property
    def redis(self) -> Any:
        return redis.Redis.from_url(self.environment["REDIS_URL"], decode_responses=True)


@pytest.fixture(scope="session")
def shared_provider() -> Iterator[sandbox.Running]:
    with sandbox.running() as running:
        yield running


def read_sandbox_profile(provider: sandbox.Running) -> tuple[dict[str, str], Any]:
    endpoints = {
        "BREEZEDOC_AUTHORIZE_URL": f"{provider.url}/oauth/authorize",
        "BREEZEDOC_TOKEN_URL": f"{provider.url}/oauth/token",
        "BREEZEDOC_API_URL": f"{provider.url}/api",
    }
    return endpoints, read_profile("breezedoc", endpoints, profile_directories())


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mapping[str, str]:
    """An empty directory to work in, and an environment that says nothing about breezesync."""
    for name in set(os.environ) - {*plain_environment(), "HOME", "TMPDIR", "PYTEST_CURRENT_TEST"}:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return os.environ


def set_up(
    provider: sandbox.Running, database_url: str, redis_url: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> Desk:
    provider.control.reset()
    key = new_key("k1")
    endpoints, profile = read_sandbox_profile(provider)
    environment = {
        **endpoints,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "ENCRYPTION_KEYS": key.line().reveal(),
        "CONNECT_SECRET": link_secret.reveal(),
        "RETURN_ORIGINS": "https://app.example",
        "BREEZEDOC_CLIENT_ID": provider.client_id,
        "BREEZEDOC_CLIENT_SECRET": provider.client_secret,
        "BREEZEDOC_REDIRECT_URI": provider.redirect_uri,
    }
    store = Store(open_fast_engine(database_url))
    house = join_house(store, provider, profile, Vault((key,)), Clock(), spool=directory / "spool")
    desk = Desk(house, environment, directory, monkeypatch)
    desk.set(**environment)
    return desk


@pytest.fixture
def desk(
    shared_provider: sandbox.Running,
    redis_url: str,
    bare_environment: Mapping[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Desk]:
    """On SQLite."""
    url = create_sqlite(tmp_path / "breezesync.db")
    opened = set_up(shared_provider, url, redis_url, tmp_path, monkeypatch)
    yield opened
    opened.house.close()


@pytest.fixture
def postgres_desk(
    shared_provider: sandbox.Running,
    postgres: Postgres,
    postgres_template: str,
    redis_url: str,
    bare_environment: Mapping[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Desk]:
    """On PostgreSQL."""
    url = postgres.create_database(postgres_template)
    opened = set_up(shared_provider, url, redis_url, tmp_path, monkeypatch)
    yield opened
    opened.house.close()
    postgres.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def either_desk(request: pytest.FixtureRequest) -> Desk:
    """Once on each."""
    name = "desk" if request.param == "sqlite" else "postgres_desk"
    found: Desk = request.getfixturevalue(name)
    return found
