"""A gateway for tests: the real application behind uvicorn in a thread, beside a house, with a worker in threads."""

import json
import queue
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import fakeredis
import httpx
import jsonschema
from redis import Redis

from models.gateway.keys import GatewayKey, digest_of, known_methods, safe_methods
from models.messaging.messages import Message
from models.proxies import Proxies
from models.store import Store
from tests.browsing import serving
from tests.harness import House
from tests.servers import wait_until
from worker.gateway.app import Shell, build_gateway_app
from worker.gateway.desk import Desk
from worker.gateway.door import Door
from worker.gateway.office import Office
from worker.gateway.openapi import describe
from worker.gateway.transport import AsyncRouted
from worker.metrics.catalog import in_gateway
from worker.metrics.counters import Metrics
from worker.provider.rate_limit import Budgets, key_of

document = describe("1")
KEYS = {
    "all": GatewayKey("billing", digest_of("all"), methods=known_methods, token=True),
    "reads": GatewayKey("reports", digest_of("reads")),
    "elsewhere": GatewayKey("other", digest_of("elsewhere"), frozenset({"other"}), known_methods, token=True),
    "tokens": GatewayKey("tokens", digest_of("tokens"), methods=frozenset(), token=True),
}
assert KEYS["reads"].methods == safe_methods


@dataclass
class Courier:
    """Does what the gateway sends, as workers do. `stop` waits for what is under way."""

    house: House
    threads: int = 3
    messages: "queue.Queue[Message | None]" = field(default_factory=queue.Queue)
    seen: list[Message] = field(default_factory=list)
    is_idle: bool = False
    """Whether messages are left where they are: no worker runs."""

    def send(self, message: Message) -> None:
        self.seen.append(message)
        if not self.is_idle:
            self.messages.put(message)

    def work(self) -> None:
        while (message := self.messages.get()) is not None:
            self.house.perform(message)

    @contextmanager
    def working(self) -> Iterator[None]:
        threads = [threading.Thread(target=self.work) for _ in range(self.threads)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for _ in threads:
                self.messages.put(None)
            for thread in threads:
                thread.join()


@dataclass
class Counter:
    """Where an application asks: its requests, each answer held to the OpenAPI document."""

    house: House
    url: str
    courier: Courier
    office: Office
    shell: Shell

    def ask(self, method: str, path: str, key: str | None = "all", **more: Any) -> httpx.Response:
        headers = dict(more.pop("headers", {})) | ({} if not key else {"Authorization": f"Bearer {key}"})
        with httpx.Client(base_url=self.url, trust_env=False, timeout=90) as client:
            answer = client.request(method, path, headers=headers, **more)
        check(answer)
        return answer

    def token(self, connection_id: str, key: str = "all", **body: Any) -> httpx.Response:
        return self.ask("POST", f"/v1/connections/{connection_id}/token", key, json=body)

    def call(self, connection_id: str, path: str, method: str = "GET", key: str = "all", **more: Any) -> httpx.Response:
        return self.ask(method, f"/v1/connections/{connection_id}/proxy/{path}", key, **more)

    def audited(self, action: str) -> list[Any]:
        with self.house.store.reading() as tx:
            return [line for line in tx.audit.newest({}, None, 1000) if line.action == action]

    def flush(self) -> None:
        """Wait until what follows an answer is written."""
        afterwards = self.office.afterwards

        def is_quiet() -> bool:
            return self.shell.under_way == 0 and afterwards.is_idle and not self.office.desk.unwritten

        wait_until(is_quiet, "what follows an answer is written")


def reserved(counter: Counter, house: House) -> set[str]:
    """Return how many requests of the account are reserved and not settled, by second."""
    stored = counter.office.desk.budgets.redis.get(key_of(house.profile, "1"))
    assert isinstance(stored, str)
    return set(stored.split()[5::3])


def check(answer: httpx.Response) -> None:
    """AssertionError if the OpenAPI document does not describe the answer of the gateway itself."""
    kind = answer.headers.get("content-type", "")
    if answer.headers.get("breezesync-source") == "provider" or not kind.startswith("application/"):
        return
    path = answer.request.url.path
    known = [each for each in document["paths"] if matches(each, path)]
    if not known:
        return
    operation = document["paths"][known[0]].get(answer.request.method.lower())
    if operation is None:
        assert answer.status_code == 405
        return
    described = operation["responses"].get(str(answer.status_code))
    assert described is not None, f"{answer.status_code} of {known[0]} is not described"
    media_type = kind.partition(";")[0]
    schema = {**described["content"][media_type]["schema"], "components": document["components"]}
    body = json.loads(answer.content) if answer.request.method != "HEAD" else None
    if body is not None:
        jsonschema.validate(body, schema, jsonschema.Draft202012Validator)
    if "headers" in described and "Retry-After" in described["headers"] and body and body["type"] == "rate_limited":
        assert int(answer.headers["retry-after"]) >= 1


def matches(template: str, path: str) -> bool:
    parts, given = template.split("/"), path.split("/")
    if parts[-1] == "{path}":
        given = [*given[: len(parts) - 1], "x"]
    return len(parts) == len(given) and all(a == b or a.startswith("{") for a, b in zip(parts, given, strict=True))


@contextmanager
def open_counter(
    house: House,
    redis: Redis | None = None,
    wait_seconds: float = 10,
    keys: Iterable[GatewayKey] = tuple(KEYS.values()),
    store: Store | None = None,
    **profile: Any,
) -> Iterator[Counter]:
    """Serve a gateway on the house's database, or as a role of it, with the house's flows as its workers."""
    courier = Courier(house)
    client = redis or fakeredis.FakeRedis(server=fakeredis.FakeServer(), decode_responses=True)
    budgets = Budgets(client, lambda: house.clock().timestamp())
    providers = {house.profile.name: replace(house.profile, **profile)}
    desk = Desk(store or house.store, house.vault, providers, budgets, courier.send, house.clock)
    office = Office(desk, AsyncRouted(Proxies()), wait_seconds)
    metrics = Metrics(families=in_gateway)
    shell = Shell(office, Door(tuple(keys), office, metrics), {"database": desk.store.check}, document, metrics)

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        yield
        await office.aclose()

    with courier.working(), serving(build_gateway_app(shell, lifespan)) as url:
        yield Counter(house, url, courier, office, shell)
    with suppress(AttributeError):
        client.close()
