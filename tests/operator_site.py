"""The operator's page and API as production builds them, on a test's own database and Redis."""

import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from config.profiles import profile_directories, read_profile
from config.wiring import build_broker, now, open_hasty_redis
from models.audit.entry import Channel
from models.crypto.secrets import Secret
from models.messaging.messages import Message
from models.queue import Queues
from models.store import Store
from tests.browsing import serving
from worker.operator.actions import Actions, actors
from worker.operator.app import Site, build_operator_routes
from worker.operator.pages import HtmlPages
from worker.operator.sign_in import SignIns
from worker.operator.views.figures import FleetFigures
from worker.operator.views.sources import Sources
from worker.web.operator import build_operator_app

operator_token = Secret("an operator's token that is long enough 1234567890")
no_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""What these requests need of TLS: to read the authorities that one trusts takes longer than a request."""
own_page = {"Sec-Fetch-Site": "same-origin"}


@dataclass
class Operator:
    """A running operator's listener: where it is, what its views come from, and what its actions sent."""

    store: Store
    sources: Sources
    sent: list[Message] = field(default_factory=list)
    url: str = ""
    aside: list[Callable[[], object]] = field(default_factory=list)
    closing: ExitStack = field(default_factory=ExitStack)
    client: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=30, verify=no_tls))

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request to the API with the token."""
        bearer = {"Authorization": f"Bearer {operator_token.reveal()}"}
        headers = {**bearer, **options.pop("headers", {})}
        return self.client.request(method, f"{self.url}/operator/api/{path}", headers=headers, **options)

    def get(self, path: str, **parameters: Any) -> Any:
        """Return the document of a view."""
        response = self.ask("GET", path, params=parameters)
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.ask("POST", path, json=body)

    def browser(self) -> httpx.Client:
        """Return a browser that has not signed in."""
        browser = httpx.Client(
            base_url=f"{self.url}/operator/", trust_env=False, headers=own_page, timeout=30, verify=no_tls
        )
        self.closing.callback(browser.close)
        return browser

    def signed_in(self) -> httpx.Client:
        """Return a browser that has."""
        browser = self.browser()
        response = browser.post("sign-in", data={"token": operator_token.reveal()})
        assert response.status_code == 303, response.text
        return browser

    def audit(self) -> list[tuple[str, str, Mapping[str, object]]]:
        """Return the actor, the action and the detail of every line, the oldest first."""
        with self.store.reading() as tx:
            lines = tx.audit.newest({}, None, 1000)
        return [(line.actor, line.action, line.detail) for line in lines]


@contextmanager
def running_operator(store: Store, redis_url: str, **overrides: Any) -> Iterator[Operator]:
    """Serve the operator's listener."""
    settings: Any = type("Settings", (), {"redis_url": Secret(redis_url)})
    broker = build_broker(settings)
    client = open_hasty_redis(Secret(redis_url))
    queues = Queues(broker, client)
    providers = {"breezedoc": read_profile("breezedoc", {}, profile_directories())}
    client_ids = overrides.get("client_ids", {"breezedoc": frozenset({"client-1"})})
    figures = FleetFigures(store, connections=0, refreshes=0, activity=0, loads=0)
    streams = ("breezesync:events", "breezesync:records", "breezesync:commands")
    sources = Sources(store, queues, providers, client_ids, streams, figures, "1.2.3")
    operator = Operator(store, sources)

    def act(channel: Channel) -> Actions:
        own = Store(store.engine, actors[channel])
        send, aside = operator.sent.append, operator.aside.append
        return Actions(own, queues, send, providers, client_ids, channel, aside)

    sign_ins = SignIns(operator_token, Store(store.engine, actors[Channel.page]), overrides.get("now", now))
    site = Site(sources, sign_ins, act(Channel.page), act(Channel.api), HtmlPages())
    with serving(build_operator_app({}, None, build_operator_routes(site))) as url:
        operator.url = url
        with operator.closing, operator.client:
            yield operator
    client.close()
    broker.client.close()


def form_token(page: str) -> str:
    """Return the token that a page's forms carry."""
    match = re.search(r'name="form_token" value="([^"]+)"', page)
    assert match is not None, page
    return match[1]
