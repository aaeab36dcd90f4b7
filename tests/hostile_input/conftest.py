"""A real web process on a real database without workers: nothing happens but what a test requests."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest
import redis

from config.profiles import profile_directories, read_profile
from models.crypto.secrets import Secret
from models.crypto.vault import Vault, parse_keys
from models.store import Store, open_engine
from tests.harness import Clock, House, join_house
from tests.processes import Fleet, running_fleet
from tests.servers import Valkey, running_valkey


@dataclass
class Web:
    """The process; `house` works on the same database, for what only a worker would do."""

    fleet: Fleet
    house: House
    valkey: Valkey

    @property
    def url(self) -> str:
        return self.fleet.web_url

    def get(self, path: str, method: str = "GET", **options: Any) -> httpx.Response:
        """One request without cookies, redirects not followed; `path` may be a whole URL."""
        address = path if "://" in path else f"{self.url}{path}"
        return httpx.request(method, address, trust_env=False, timeout=30, **options)

    def operator(self, path: str) -> httpx.Response:
        return self.get(f"{self.fleet.operator_url}{path}")

    def begin(self, user: str = "ada", **claims: Any) -> tuple[str, dict[str, str]]:
        """Follows a fresh link: the state, and the browser's cookies."""
        answer = self.get(self.fleet.link(user, **claims))
        assert answer.status_code == 302, answer.text
        return parse_qs(urlsplit(answer.headers["location"]).query)["state"][0], dict(answer.cookies)

    def follow(self, answer: httpx.Response, **options: Any) -> httpx.Response:
        """One step along a redirect, which may be relative."""
        return self.get(urljoin(str(answer.url), answer.headers["location"]), **options)

    def call_back(self, cookies: dict[str, str] | None = None, **query: Any) -> httpx.Response:
        return self.get("/auth/breezedoc/callback", params=query, cookies=cookies or {})

    def contents(self) -> Any:
        """All that a door could change: authorizations, connections, events, and what lies in Redis."""
        with redis.Redis.from_url(self.valkey.url) as client:
            keys = client.dbsize()
        rows = self.fleet.rows("SELECT id, step, state_hash, reason, code FROM authorization ORDER BY id")
        events = self.fleet.rows("SELECT count(*) FROM event")
        return rows, self.fleet.rows("SELECT id, status FROM connection"), events, keys

    def log(self) -> str:
        """What the web process wrote; workers that other tests start here have reasons of their own to complain."""
        webs = [program for program in self.fleet.programs if program.name.startswith("web")]
        return "".join(program.log.read_text(errors="replace") for program in webs)


@pytest.fixture(scope="package")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    directory: Path = tmp_path_factory.mktemp("doors")
    url = f"sqlite:///{directory}/breezesync.db"
    settings = {"CONNECT_CONFIRMATION": "off"}
    with (
        running_valkey() as valkey,
        running_fleet(url, valkey.url, directory, workers=0, schedulers=0, **settings) as fleet,
    ):
        overrides = {name: text for name, text in fleet.environment.items() if name.endswith("_URL")}
        profile = read_profile("breezedoc", overrides, profile_directories())
        vault = Vault(parse_keys(fleet.environment["ENCRYPTION_KEYS"]))
        store = Store(open_engine(Secret(url)))
        house = join_house(store, fleet.provider, profile, vault, Clock(), spool=directory / "spool")
        yield Web(fleet, house, valkey)
        house.close()
