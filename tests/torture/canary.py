"""`python -m tests.torture.canary`: one life full of trouble, and where its secrets and contents were seen afterwards.

A table of places, with what was looked for in each and in how many forms; 1 if anything was found.
"""

import io
import json
import logging
import secrets
import sys
import traceback
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import dramatiq
import httpx
import redis
import structlog
from dramatiq import Worker
from prometheus_client import generate_latest
from sqlalchemy import text
from typer.testing import CliRunner

import sandbox
from config.settings import read_settings
from config.wiring import build_broker, open_services, stream_settings
from models.crypto.secrets import Secret
from models.gateway.keys import GatewayKey, digest_of, known_methods
from models.messaging import messages
from models.oauth.authorization import Confirmation
from models.oauth.credential import place_of_token
from models.oauth.token_pair import TokenPair
from models.oauth.token_response import TokensGranted
from models.store.tables import metadata
from scheduler.audit_chain import AuditChain
from tests.browsing import serving
from tests.databases import create_sqlite
from tests.debug_log import logging_everything
from tests.flows.test_commands import read_all, reader
from tests.flows.test_echoes import Echo, echoing
from tests.gateway import open_counter
from tests.harness import House, build_house, link_secret
from tests.servers import running_valkey, wait_until
from worker.__main__ import build_app as build_commands
from worker.actors import declare_actors
from worker.processes.web import build_operator
from worker.queue.broker import Broker, KeepReason
from worker.queue.publish import PublishEvents
from worker.tokens.spool import Ticket
from worker.web.app import build_app

title = "Settlement with Boris Canary about the vineyard"
person = "Boris Canary"
email = "boris.canary@example.org"
return_to = "https://app.example/settings"

forms: Mapping[str, Callable[[str], str]] = {
    "as it is": lambda value: value,
    "percent-encoded": lambda value: quote(value, safe=""),
    "Base64": lambda value: b64encode(value.encode()).decode().rstrip("="),
    "Base64 for URLs": lambda value: urlsafe_b64encode(value.encode()).decode().rstrip("="),
    "hexadecimal": lambda value: value.encode().hex(),
    "escaped for JSON": lambda value: json.dumps(value)[1:-1],
}
allowed: Mapping[str, frozenset[str]] = {
    "database": frozenset({"e-mail"}),
    "file of the database": frozenset({"e-mail", "title", "person"}),
    "Redis": frozenset({"e-mail"}),
    "command line": frozenset({"e-mail"}),
    "operator's API": frozenset({"e-mail"}),
    "gateway": frozenset({"e-mail"}),
}
"""Contents that belong in a place: synced records in the database's file, an account's address in its connection."""
commands = (
    ("connections",),
    ("authorizations",),
    ("events",),
    ("dead-letters",),
    ("status",),
    ("keys", "status"),
    ("provider", "status"),
)

operator_views = (
    "overview",
    "connections",
    "authorizations",
    "dead-letters",
    "groups",
    "events",
    "providers",
    "queues",
)


@dataclass
class Life:
    """What was seen: the secrets and contents by name, and the text of each place."""

    secrets: dict[str, str] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=lambda: {"title": title, "person": person, "e-mail": email})
    places: dict[str, str] = field(default_factory=dict)

    def hits(self) -> list[tuple[str, str, str]]:
        """Return the place, the name and the form of everything that is where it must not be."""
        looked_for = self.secrets | self.contents
        return [
            (place, name, form)
            for place, seen in self.places.items()
            for name, value in looked_for.items()
            if not (name in self.contents and name in allowed.get(place, ()))
            for form, write in forms.items()
            if write(value) in seen
        ]


def live() -> Life:
    """Play the life, and look everywhere."""
    life = Life()
    with sandbox.running() as provider, running_valkey() as valkey, TemporaryDirectory() as name:
        directory = Path(name)
        url = create_sqlite(directory / "canary.db")
        house = build_house(url, provider, directory / "spool")
        environment = _environment(house, provider, url, valkey.url, directory)
        try:
            with logging_everything() as log:
                connection_id = _connect(house, life, provider, valkey.url)
                _meet_trouble(house, life, valkey.url, connection_id)
                life.places["crash"] = _crash(house, connection_id)
                _bury(house, environment, connection_id)
                life.places["operator's listener"] = _ask_operator(environment)
                life.places["operator's API"] = _ask_operators_api(environment)
                life.places["gateway"] = _use_gateway(house, life, connection_id)
                _publish(house, environment)
            life.places["log, at the level of debugging"] = log.getvalue()
            AuditChain(house.store, house.clock)()
            _look(house, life, directory, valkey.url, environment)
        finally:
            house.close()
    return life


def _environment(house: House, provider: sandbox.Running, url: str, redis_url: str, directory: Path) -> dict[str, str]:
    return {
        "BREEZEDOC_AUTHORIZE_URL": f"{provider.url}/oauth/authorize",
        "BREEZEDOC_TOKEN_URL": f"{provider.url}/oauth/token",
        "BREEZEDOC_API_URL": f"{provider.url}/api",
        "DATABASE_URL": url,
        "REDIS_URL": redis_url,
        "ENCRYPTION_KEYS": house.keys[0].line().reveal(),
        "CONNECT_SECRET": link_secret.reveal(),
        "RETURN_ORIGINS": "https://app.example",
        "BREEZEDOC_CLIENT_ID": provider.client_id,
        "BREEZEDOC_CLIENT_SECRET": provider.client_secret,
        "BREEZEDOC_REDIRECT_URI": provider.redirect_uri,
        "SPOOL_DIRECTORY": str(directory / "spool"),
    }


def _connect(house: House, life: Life, provider: sandbox.Running, redis_url: str) -> str:
    """Connect an account through the pages, with a confirmation by the application; return the connection's id."""
    account = house.control.add_user(person, documents=2, email=email)
    house.control.add_documents(account, 1, title=title)
    callback = replace(house.callback, confirmation=Confirmation.application)
    link = house.link("ada", return_to=return_to)
    pages = []
    with serving(build_app(callback)) as url, httpx.Client(base_url=url, trust_env=False) as browser:
        begun = browser.get("/auth/breezedoc", params={"token": link})
        back = dict(parse_qsl(urlsplit(house.control.authorize(begun.headers["location"], account)).query))
        pages.append(browser.get("/auth/breezedoc/callback", params={**back, "state": back["state"] + "x"}).text)
        cookies = dict(browser.cookies)
        home = browser.get("/auth/breezedoc/callback", params=back)
        brought = dict(parse_qsl(urlsplit(home.headers["location"]).query))
        done = f"/auth/breezedoc/done/{brought['authorization_id']}"
        pages += [browser.get("/auth/breezedoc", params={"token": link + "x"}).text, browser.get(done).text]
        with redis.Redis.from_url(redis_url) as raw:
            asked = {"type": "confirm", **brought, "user_id": "ada"}
            raw.xadd("breezesync:commands", {**asked, "authorization_id": "nobody"})
            raw.xadd("breezesync:commands", asked)
            read_all(reader(house, raw))
        house.sweep()
        pages += [browser.get(done).text, browser.get(done, headers={"Accept": "application/json"}).text]
    life.places["pages"] = "\n".join(pages)
    life.secrets |= {"link": link, "code": back["code"], "state": back["state"]}
    life.secrets |= {"confirmation": brought["confirmation"], "client secret": provider.client_secret}
    life.secrets |= {f"cookie {number}": value for number, value in enumerate(cookies.values()) if value}
    life.secrets |= {"link secret": link_secret.reveal(), "key": house.keys[0].line().reveal().partition(":")[2]}
    with house.store.reading() as tx:
        [connection] = tx.connections.find(user_id="ada")
    return connection.id


def _note_tokens(house: House, life: Life, connection_id: str) -> None:
    connection, credential = house.connection(connection_id), house.credential(connection_id)
    for name, sealed in (("access_token", credential.access_token), ("refresh_token", credential.refresh_token)):
        if sealed is not None:
            token = house.vault.open(sealed, place_of_token(connection, name))
            life.secrets[f"{name} {connection.generation}"] = token.reveal()


def _meet_trouble(house: House, life: Life, redis_url: str, connection_id: str) -> None:
    """Refresh at a token endpoint that repeats what it was sent, fail an exchange there, and park a pair."""
    _note_tokens(house, life, connection_id)
    house.make_refresh_due(connection_id)
    house.sweep()
    _note_tokens(house, life, connection_id)
    echo = Echo(500, "")
    with echoing(house, echo):
        house.make_refresh_due(connection_id)
        house.sweep()
        house.flows.exchange(house.consent("eve", 1))
    life.secrets |= {f"echoed {number}": each for number, each in enumerate(sorted(set(echo.secrets)))}
    house.turn(hours=1)
    house.sweep()
    _note_tokens(house, life, connection_id)
    parked = {"parked access token": "parked-access-canary-01", "parked refresh token": "parked-refresh-canary-1"}
    access_token, refresh_token = map(Secret, parked.values())
    granted = TokensGranted(access_token=access_token, refresh_token=refresh_token, expires_in=None, scope=None)
    with redis.Redis.from_url(redis_url) as raw:
        parking = replace(house.flows.refresh.parking, redis=raw)
        parking.park(Ticket("refresh", connection_id, 99), TokenPair(granted, house.clock()))
    life.secrets |= parked


def _crash(house: House, connection_id: str) -> str:
    """Return what a process that dies of a failing sync leaves on its standard error."""
    house.control.add_documents(int(house.connection(connection_id).account_id), 1, title=title)
    with house.store.engine.begin() as sql:  # it refuses the next records, as it does if a constraint is broken
        sql.execute(text("ALTER TABLE record RENAME COLUMN data TO was"))
    last_words = io.StringIO()
    try:
        house.flows.sync(connection_id)
    except Exception as error:  # whatever it is, the process would end by it
        logging.getLogger("dramatiq").exception("failed")
        structlog.get_logger("sync").exception("failed", error=error)
        with redirect_stderr(last_words):
            sys.excepthook(*sys.exc_info())
        last_words.write("".join(traceback.format_exception(error)) + repr(error.__cause__))
    return last_words.getvalue()


def _bury(house: House, environment: Mapping[str, str], connection_id: str) -> None:
    """Have a sync fail in a worker until it is a dead letter."""
    house.turn(minutes=10)  # the run that the crash left is leased no longer
    settings = read_settings(environment, env_file=None)
    broker: Any = build_broker(settings, [KeepReason()], Broker)
    declare_actors(broker, house.flows)
    for actor in broker.actors.values():
        actor.options |= {"min_backoff": 1, "max_backoff": 1, "max_retries": 0}
    broker.emit_after("process_boot")
    worker = Worker(broker, worker_timeout=50, worker_threads=1)
    worker.start()
    try:
        broker.enqueue(dramatiq.Message("sync", "sync_connection", (), {"connection_id": connection_id}, {}))
        wait_until(lambda: broker.client.hlen("dramatiq:sync.XQ.msgs") == 1, "the sync is a dead letter", 30)
    finally:
        worker.stop()
        broker.close()


def _publish(house: House, environment: Mapping[str, str]) -> None:
    settings = read_settings(environment, env_file=None)
    services = open_services(settings, "worker")
    try:
        PublishEvents(house.store, services.redis, stream_settings(settings), house.clock)()
    finally:
        services.close()


def _ask_operator(environment: Mapping[str, str]) -> str:
    settings = read_settings(environment, env_file=None)
    services = open_services(settings, "operator")
    try:
        with serving(build_operator(settings, services)) as url:
            paths = ("/healthz", "/readyz", "/metrics", "/nothing")
            return "\n".join(httpx.get(f"{url}{path}", trust_env=False).text for path in paths)
    finally:
        services.close()


def _ask_operators_api(environment: Mapping[str, str]) -> str:
    """Return every view, each connection's and authorization's story, and what bad requests are told."""
    token = secrets.token_urlsafe(32)
    settings = read_settings({**environment, "OPERATOR_TOKEN": token}, env_file=None)
    services = open_services(settings, "operator")
    texts = []
    try:
        with (
            serving(build_operator(settings, services)) as url,
            httpx.Client(headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=30) as client,
        ):
            lists = {name: client.get(f"{url}/operator/api/{name}") for name in operator_views}
            assert {answer.status_code for answer in lists.values()} == {200}, lists
            texts = [answer.text for answer in lists.values()]
            found = [("connections", row["connection"]["id"]) for row in lists["connections"].json()["rows"]]
            found += [("authorizations", row["id"]) for row in lists["authorizations"].json()["rows"]]
            assert found
            texts += [client.get(f"{url}/operator/api/{kind}/{own}").text for kind, own in found]
            texts += [client.post(f"{url}/operator/api/connections/{own}/disconnect").text for _, own in found]
            texts += [client.get(f"{url}/operator/{path}").text for path in ("sign-in", "nothing", "")]
    finally:
        services.close()
    assert token not in "\n".join(texts)
    return "\n".join(texts)


def _use_gateway(house: House, life: Life, connection_id: str) -> str:
    """Have a token, make a call with a body, and one as a job; return every other answer of the gateway."""
    key, body, query = "breezesync_canary-key-0001", "canary-body-01", "canary-query-1"
    life.secrets |= {"gateway key": key, "a call's body": body, "its query": query}
    path = f"/v1/connections/{connection_id}"
    with open_counter(house, keys=[GatewayKey("canary", digest_of(key), methods=known_methods, token=True)]) as counter:
        counter.courier.is_idle = True
        token = counter.token(connection_id, key).json()["access_token"]
        life.secrets["token of the gateway"] = token
        counter.call(connection_id, f"documents?q={query}", "POST", key, content=body)
        asked = {"method": "PUT", "path": f"documents?q={query}", "body": {"title": body}, "idempotency_key": "one"}
        accepted = counter.ask("POST", f"{path}/calls", key, json=asked)
        house.perform(messages.call(accepted.json()["call_id"]))
        answers = [
            accepted,
            counter.ask("POST", f"{path}/calls", key, json=asked | {"path": "documents"}),
            counter.ask("POST", f"{path}/calls", key, json=asked | {"path": f"../{query}"}),
            counter.ask("GET", "/v1/connections", key),
            counter.ask("GET", path, key),
            counter.ask("GET", path, key + "x"),
            counter.ask("GET", f"{path}/nothing?q={query}", key),
            counter.call(connection_id, f"..%2f{query}", "POST", key, content=body),
            counter.ask("POST", f"{path}/token", key, content=body),
            counter.ask("GET", "/openapi.json", None),
        ]
        counter.flush()
        metrics = generate_latest(counter.shell.metrics.registry).decode()
    return "\n".join([*(f"{answer.headers}{answer.text}" for answer in answers), metrics])


def _look(house: House, life: Life, directory: Path, redis_url: str, environment: dict[str, str]) -> None:
    with house.store.engine.begin() as sql:
        sql.execute(text("ALTER TABLE record RENAME COLUMN was TO data"))
        tables = [table for table in metadata.sorted_tables if table.name != "record"]
        read = [sql.execute(text(f'SELECT * FROM "{table.name}"')).all() for table in tables]
        life.places["database"] = str(read)
    life.places["file of the database"] = _read(directory.glob("canary.db*"))
    life.places["spool"] = _read(path for path in (directory / "spool").iterdir() if path.is_file())
    with redis.Redis.from_url(redis_url) as client:
        life.places["Redis"] = "\n".join(_describe_key(client, key) for key in client.scan_iter())
        life.places["dead letter"] = str(client.hvals("dramatiq:sync.XQ.msgs"))
    life.places["audit's export"] = _type(environment, "audit", "--json")
    with house.store.reading() as tx:
        ids = [each.id for each in tx.connections.find()]
    typed = [*commands, *(("explain", each) for each in ids)]
    life.places["command line"] = "\n".join(_type(environment, *words, "--json") for words in typed)


def _read(paths: Iterator[Path]) -> str:
    return "\n".join(path.read_bytes().decode("latin-1") for path in paths)


def _describe_key(client: Any, key: bytes) -> str:
    read = {
        b"hash": client.hgetall,
        b"stream": client.xrange,
        b"list": lambda name: client.lrange(name, 0, -1),
        b"set": client.smembers,
        b"zset": lambda name: client.zrange(name, 0, -1),
        b"string": client.get,
    }
    return f"{key!r} {read[client.type(key)](key)!r}"


def _type(environment: dict[str, str], *words: str) -> str:
    result = CliRunner().invoke(build_commands(), words, prog_name="breezesync", env=environment)
    return f"{result.output}\n{result.exception!r}"


def draw(life: Life) -> str:
    """Return the table, and a line for each hit."""
    found = life.hits()
    head = ("place", "characters", "secrets", "contents", "forms", "hits")
    rows = [head]
    for place, seen in life.places.items():
        contents = len(life.contents) - len(allowed.get(place, ()))
        hits = sum(each[0] == place for each in found)
        rows.append((place, f"{len(seen):,}", str(len(life.secrets)), str(contents), str(len(forms)), str(hits)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([*lines, *(f"{name} is in {place}, {form}" for place, name, form in found)])


def main() -> int:
    life = live()
    print(draw(life))
    return int(bool(life.hits()))


if __name__ == "__main__":
    sys.exit(main())
