"""What the trial runs: the shipped processes, PostgreSQL, Valkey, and django-oauth-toolkit behind a counting proxy."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx

from config.profiles import read_profile
from models.crypto.secrets import Secret
from models.gateway.keys import GatewayKey, digest_of, known_methods
from models.migrations import migrate
from models.store import open_engine
from tests.processes import Fleet, Program, environment_with, running_processes
from tests.servers import Valkey, reserved_port, running_postgres, running_valkey
from tests.torture.interop import toolkit as interop
from tests.torture.interop.proxy import Proxy, running_proxy
from tests.torture.interop.toolkit import Toolkit, running_toolkit

gateway_count = 3
worker_count = 2
scheduler_count = 2
access_seconds = 20
"""The life of an access token: it is refreshed after about 15 seconds."""
api_requests_per_minute = 60
key = "breezesync_the-trial-s-key"


@dataclass
class ToolkitFleet(Fleet):
    """A fleet whose provider is django-oauth-toolkit."""

    toolkit: Toolkit = field(kw_only=True)

    def authorize(self, asked: str, account: int) -> str:
        """As Fleet's. The toolkit knows one redirect URI, at another port than our web process listens at."""
        back = urlsplit(self.toolkit.authorize(asked, account))
        return urlunsplit(back._replace(netloc=urlsplit(self.web_url).netloc))


@dataclass
class Stack:
    """All of it. `gateways` are by port; each that is killed is started again at its port."""

    fleet: ToolkitFleet
    proxy: Proxy
    valkey: Valkey
    ports: tuple[int, ...]
    gateways: dict[int, Program] = field(default_factory=dict)

    def start_gateway(self, port: int) -> None:
        self.gateways[port] = self.fleet.start_gateway(port)

    def programs(self, name: str) -> list[Program]:
        return [each for each in self.fleet.programs if each.runs and each.name.startswith(name)]

    def wait_until_ready(self, port: int) -> None:
        def is_ready() -> bool:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code == 200
            except httpx.TransportError:
                return False

        self.fleet.wait_until(is_ready, f"the gateway at {port} is ready")


@contextmanager
def running_stack(directory: Path, accounts: int) -> Iterator[Stack]:
    with ExitStack() as opened:
        postgres = opened.enter_context(running_postgres())
        valkey = opened.enter_context(running_valkey(persistent=True))
        toolkit = opened.enter_context(running_toolkit(0, accounts, access_seconds, api_requests_per_minute))
        proxy = opened.enter_context(running_proxy(toolkit.port))
        web, operator, *gateways = (opened.enter_context(reserved_port()) for _ in range(2 + gateway_count))
        own = write_settings(directory, toolkit, proxy)
        url = postgres.create_database()
        environment = environment_with(url, valkey.url, operator, own)
        web_url, operator_url = f"http://127.0.0.1:{web}", f"http://127.0.0.1:{operator}"
        no_sandbox: Any = None
        fleet = ToolkitFleet(
            *(web_url, operator_url, url, valkey.url, no_sandbox, environment, directory),
            provider_name="toolkit",
            toolkit=toolkit,
        )
        engine = open_engine(Secret(url))
        migrate(engine, [read_profile("toolkit", {}, (directory / "config" / "providers",))])
        engine.dispose()
        opened.enter_context(running_processes(fleet, worker_count, scheduler_count))
        stack = Stack(fleet, proxy, valkey, tuple(gateways))
        for port in stack.ports:
            stack.start_gateway(port)
        for port in stack.ports:
            stack.wait_until_ready(port)
        yield stack


def write_settings(directory: Path, toolkit: Toolkit, proxy: Proxy) -> dict[str, str]:
    """Put the toolkit's profile in the directory that the processes run in; return the settings that go with it."""
    profiles = directory / "config" / "providers"
    profiles.mkdir(parents=True)
    profiles.joinpath("toolkit.toml").write_bytes((interop.here / "toolkit.toml").read_bytes())
    entry = GatewayKey("trial", digest_of(key), methods=known_methods, token=True).line()
    return {
        "PROVIDERS": "toolkit",
        "TOOLKIT_AUTHORIZE_URL": f"{toolkit.url}/o/authorize/",
        "TOOLKIT_TOKEN_URL": f"{proxy.url}/o/token/",
        "TOOLKIT_API_URL": f"{toolkit.url}/api",
        "TOOLKIT_API_REQUESTS_PER_MINUTE": str(api_requests_per_minute),
        "TOOLKIT_CLIENT_ID": toolkit.client_id,
        "TOOLKIT_CLIENT_SECRET": toolkit.client_secret,
        "TOOLKIT_REDIRECT_URI": toolkit.redirect_uri,
        "GATEWAY_KEYS": entry,
        "SYNC_INTERVAL": "1m",
    }
