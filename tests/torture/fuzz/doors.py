"""The five doors: each takes `count` inputs drawn from a seed, and returns what they did."""

import asyncio
import json
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import dramatiq
import redis
from dramatiq import Worker
from dramatiq.middleware import AgeLimit, Callbacks, CurrentMessage, Retries
from starlette.types import ASGIApp

import sandbox
from config.environment import SettingsError
from config.settings import read_settings
from models.api_response import Page, read_api_answer
from models.http import HttpAnswer
from models.messaging.messages import QUEUES
from models.oauth.token_response import GrantRefused, TokensGranted, read_token_answer
from models.paging.page_format import PageAsked, PageFormat
from models.store.tables import metadata
from models.sync.page import parse_page
from scheduler.command_stream import Commands
from tests.databases import create_sqlite
from tests.harness import House, build_house, link_secret
from tests.servers import running_valkey, wait_until
from tests.torture.fuzz import inputs
from tests.torture.fuzz.report import Figures, counting
from worker.actors import declare_actors
from worker.queue.broker import Broker, KeepReason
from worker.web.app import build_app
from worker.web.guard import Allowance

title = "Settlement with Boris Canary"
email = "boris.canary@example.org"
watched = ("authorization", "connection", "credential", "record", "event", "sync_run")


@dataclass(frozen=True, slots=True)
class Place:
    """A house with a connection and its contents, and an empty Valkey."""

    house: House
    connection_id: str
    secrets: tuple[str, ...]
    redis_url: str

    def contents(self) -> dict[str, object]:
        with self.house.store.engine.connect() as sql:
            tables = [table for table in metadata.sorted_tables if table.name in watched]
            return {table.name: sorted(map(repr, sql.execute(table.select()).all())) for table in tables}


unlimited = Allowance(per_minute=10**9)


@contextmanager
def opened() -> Iterator[Place]:
    with sandbox.running() as provider, running_valkey() as valkey, tempfile.TemporaryDirectory() as name:
        house = build_house(create_sqlite(Path(name) / "b.db"), provider, Path(name) / "spool")
        try:
            account = house.control.add_user("Boris Canary", documents=2, email=email)
            house.control.add_documents(account, 1, title=title)
            connection = house.connect("ada", account)
            house.work()
            secrets = (provider.client_secret, link_secret.reveal(), house.keys[0].material.reveal(), title, email)
            yield Place(house, connection.id, secrets, valkey.url)
        finally:
            house.close()


def try_http(place: Place, chance: Random, count: int) -> Figures:
    """Requests of any path, query, header and method, at the application itself."""
    app = build_app(place.house.callback, unlimited)
    with counting("HTTP") as (figures, log):
        before = place.contents()
        loop = asyncio.new_event_loop()
        for _ in range(count):
            scope = _request(place, chance)
            answer = figures.attempt(lambda scope=scope: loop.run_until_complete(_ask(app, scope)), scope)  # type: ignore[misc]
            status, seen = answer if isinstance(answer, tuple) else (0, "")
            if status >= 500:
                figures.server_errors += 1
                figures.note(f"HTTP {status}", scope)
            figures.check_leaks(place.secrets, seen, scope)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        figures.compare(before, place.contents())
        figures.check_leaks(place.secrets, log.getvalue())
    return figures


def _request(place: Place, chance: Random) -> dict[str, Any]:
    """One request as a server passes it on; the links in it are altered, so none may be taken."""
    link = place.house.link(inputs.text(chance)[:200] or "ada")
    at = chance.randrange(len(link) - 8)
    altered = link[:at] + chance.choice("AZ09_-") * 2 + link[at + 3 :]
    paths = (
        "/",
        "/auth/breezedoc",
        "/auth/breezedoc/callback",
        f"/auth/breezedoc/done/{uuid4().hex}",
        "/auth/breezedoc/start",
    )
    path = chance.choice((*paths, *paths, "/auth/" + inputs.text(chance), "/" + inputs.text(chance)))
    names = ("token", "code", "state", "error", "error_description", "iss", inputs.text(chance))
    query = "&".join(
        f"{quote(chance.choice(names), errors='replace')}="
        f"{quote(chance.choice((altered, inputs.text(chance), inputs.noise(chance))), errors='replace')}"
        for _ in range(chance.randint(0, 4))
    )
    headers = [
        (name, inputs.text(chance).encode("utf-8", "replace")[:2000])
        for name in (b"cookie", b"accept", b"host", b"x-forwarded-for", b"authorization")
        if chance.random() < 0.4
    ]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": chance.choice(("GET", "GET", "GET", "HEAD", "POST", "PUT", "BREW")),
        "scheme": "http",
        "path": path.encode("utf-8", "replace").decode(),
        "raw_path": path.encode("utf-8", "replace"),
        "query_string": query.encode(),
        "root_path": "",
        "headers": headers,
        "client": ("192.0.2.1", 1),
        "server": ("127.0.0.1", 8700),
    }


async def _ask(app: ASGIApp, scope: dict[str, Any]) -> tuple[int, str]:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    try:
        await app(scope, receive, send)
    except Exception:  # Starlette raises what it has answered with a 500
        if not sent:
            raise
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], body.decode("utf-8", "replace") + repr(sent[0]["headers"])


def try_answers(place: Place, chance: Random, count: int) -> Figures:
    """Answers of the token endpoint and of the API: what they would change is a refusal that they don't prove."""
    now, resource = datetime.now(UTC), place.house.profile.resources[0]
    secrets = ("def50200" + "0a1b2c3d" * 40, "client/secret+%", link_secret.reveal())
    good: dict[str, Any] = {"token_type": "Bearer", "expires_in": 3600, "access_token": "a", "refresh_token": "b"}
    bad: dict[str, Any] = {"error": "invalid_grant", "hint": "", "error_description": " ".join(secrets)}
    page: dict[str, Any] = {"current_page": 1, "last_page": 1, "total": 1, "data": [{"id": 1, "title": "x"}]}
    with counting("answers") as (figures, log):
        for _ in range(count):
            body = inputs.garble(chance, inputs.encode(inputs.mutate(chance, chance.choice((good, bad, page)))))
            status = chance.choice((200, 200, 201, 204, 302, 400, 401, 403, 404, 418, 422, 429, 500, 502, 503, 599))
            headers = {"content-type": chance.choice(("application/json", "text/html", inputs.noise(chance)))}
            headers["retry-after"] = inputs.text(chance)
            answer = HttpAnswer(status, headers, body, chance.random() < 0.9)
            read = figures.attempt(partial(read_token_answer, "refresh_token", answer, now, secrets), answer)
            if isinstance(read, GrantRefused) and not (400 <= status < 500 or 200 <= status < 300):
                figures.compare("no one is blamed", answer)
            if not isinstance(read, TokensGranted):
                figures.check_leaks(secrets, repr(read), answer)
            figures.tried -= 1  # the two readings are of one answer
            figures.attempt(partial(_read_page, place, answer, resource, now), answer)
        figures.check_leaks(secrets, log.getvalue())
    return figures


def _read_page(place: Place, answer: HttpAnswer, resource: Any, now: datetime) -> object:
    outcome = read_api_answer(answer, PageFormat(paging="laravel"), PageAsked(), now)
    return parse_page(outcome, resource, place.house.profile) if isinstance(outcome, Page) else outcome


def try_messages(place: Place, chance: Random, count: int) -> Figures:
    """Texts in the queues of a real broker, in front of a worker of eight threads; a good one goes in between."""
    middleware = [AgeLimit(), Callbacks(), CurrentMessage(), Retries(), KeepReason()]
    broker = Broker(url=place.redis_url, middleware=middleware, reclaim_every=1.0)
    done: list[str] = []
    dramatiq.actor(broker=broker, queue_name="probe", actor_name="probe")(done.append)
    declare_actors(broker, place.house.flows)
    for actor in broker.actors.values():
        actor.options |= {"min_backoff": 1, "max_backoff": 1, "max_retries": 2}
    broker.emit_after("process_boot")
    worker, client = Worker(broker, worker_timeout=50, worker_threads=8), redis.Redis.from_url(place.redis_url)
    with counting("messages") as (figures, log):
        before = place.contents()
        worker.start()
        try:
            for start in range(0, count, 500):
                _put_messages(client, chance, min(500, count - start))
                sent = monotonic()
                broker.actors["probe"].send(str(start))
                wait_until(lambda start=start: str(start) in done, "a good message is done", 60)  # type: ignore[misc]
                figures.longest = max(figures.longest, monotonic() - sent)
                wait_until(lambda: _count_left(client, broker) == 0, "all are worked on", 120)
            figures.tried = count
            threads = (*worker.workers, *worker.consumers.values())
            figures.dead_threads = sum(not thread.is_alive() for thread in threads)
        finally:
            worker.stop(timeout=10_000)
            broker.close()
        figures.compare(before, place.contents())
        for key in client.scan_iter("*.XQ.msgs"):
            for _, letter in client.hscan_iter(key):
                figures.check_leaks(place.secrets, repr(letter))
        figures.check_leaks(place.secrets, log.getvalue())
        client.close()
    return figures


def _put_messages(client: Any, chance: Random, count: int) -> None:
    with client.pipeline(transaction=False) as pipeline:
        for _ in range(count):
            actor = chance.choice([name for name in QUEUES if name != "publish_events"])
            queue, key = chance.choice((QUEUES[actor], "sync")), uuid4().hex
            usual: dict[str, Any] = {"queue_name": queue, "actor_name": actor, "args": [], "message_id": key}
            kwargs = {"connection_id": uuid4().hex, "user_id": "nobody"}
            options: dict[str, Any] = {"redis_message_id": key}
            if chance.random() < 0.6:
                options = inputs.mutate(chance, options, ("throws", "eta", "retries", "max_retries", "on_failure"))
            message = {**usual, "kwargs": kwargs, "options": options, "message_timestamp": time.time_ns() // 10**6}
            if chance.random() < 0.6:
                message = inputs.mutate(chance, message)
            pipeline.hset(f"dramatiq:{queue}.msgs", key, inputs.garble(chance, inputs.encode(message)))
            pipeline.rpush(f"dramatiq:{queue}", key)
        pipeline.execute()


def _count_left(client: Any, broker: Broker) -> int:
    """How many messages wait or are in work; one that is to come much later waits with reason."""
    left: int = sum(client.hlen(f"dramatiq:{name}.msgs") for name in broker.queues) + sum(
        client.llen(f"dramatiq:{name}.DQ") for name in broker.queues
    )
    return left


def try_commands(place: Place, chance: Random, count: int) -> Figures:
    """Entries of the commands stream: each is acknowledged, and what can't be read stands among the rejected."""
    stream = "fuzz:commands"
    names = ("type", "connection_id", "user_id", "provider", "erase")
    with counting("commands") as (figures, log), redis.Redis.from_url(place.redis_url) as client:
        before = place.contents()
        commands = Commands(place.house.store, client, stream, lambda: None, place.house.clock)
        commands(timedelta(milliseconds=1))
        for _ in range(count):
            good = {"type": chance.choice(("sync", "refresh", "disconnect")), "connection_id": uuid4().hex}
            fields = inputs.mutate(chance, good, names)
            entry = {
                name.encode("utf-8", "replace"): str(value).encode("utf-8", "replace") for name, value in fields.items()
            }
            client.xadd(stream, entry or {b"": b""})
            figures.attempt(lambda: commands(timedelta(milliseconds=1)), entry)
        figures.compare(0, client.xlen(stream))
        figures.compare(before, place.contents())
        for rejected in _read_stream(client, f"{stream}:rejected"):
            figures.check_leaks(place.secrets, repr(rejected))
        figures.check_leaks(place.secrets, log.getvalue())
    return figures


def _read_stream(client: Any, key: str) -> Iterator[object]:
    """Yield all entries, a thousand at a time."""
    start = "-"
    while entries := client.xrange(key, min=start, count=1_000):
        yield from entries
        start = f"({entries[-1][0].decode()}"


def try_settings(place: Place, chance: Random, count: int) -> Figures:
    """Environments: each is read or refused with reasons, and no reason has a secret in it."""
    secrets = ("hunter2-of-the-client", "hunter2-of-the-database", b64encode(bytes(range(32))).decode())
    good: dict[str, Any] = {
        "BREEZEDOC_CLIENT_ID": "client",
        "BREEZEDOC_CLIENT_SECRET": secrets[0],
        "BREEZEDOC_REDIRECT_URI": "http://localhost:8700/auth/breezedoc/callback",
        "DATABASE_URL": f"postgresql+psycopg://u:{secrets[1]}@h/d",
        "REDIS_URL": f"redis://u:{secrets[1]}@h/0",
        "ENCRYPTION_KEYS": f"k1:{secrets[2]}",
        "CONNECT_SECRET": link_secret.reveal(),
        "RETURN_ORIGINS": "https://app.example",
        "SYNC_INTERVAL": "15m",
        "PROVIDERS": "breezedoc",
    }
    more = (
        "EVENTS_MAXLEN",
        "OPERATOR_TOKEN",
        "BREEZEDOC_PKCE",
        "BREEZEDOC_TOKEN_URL",
        "HTTPS_PROXY",
        "PROVIDERS_DIRECTORY",
        "SPOOL_DIRECTORY",
    )
    with counting("settings") as (figures, log):
        before = place.contents()
        for _ in range(count):
            texts = {name: str(value) for name, value in inputs.mutate(chance, good, more).items()}
            for name in chance.sample(sorted(texts), k=min(1, len(texts))):
                texts[name] = inputs.garble(chance, texts[name].encode("utf-8", "replace")).decode("utf-8", "replace")
            said = figures.attempt(partial(_read_settings, texts), texts)
            figures.check_leaks(secrets, str(said), texts)
        figures.compare(before, place.contents())
        figures.check_leaks(secrets, log.getvalue())
    return figures


def _read_settings(texts: dict[str, str]) -> str:
    try:
        return repr(read_settings(texts, env_file=None))
    except SettingsError as error:
        return str(error)


doors = {
    "http": try_http,
    "answers": try_answers,
    "messages": try_messages,
    "commands": try_commands,
    "settings": try_settings,
}


def try_all(names: list[str], seed: int, count: int) -> Iterator[Figures]:
    """Try each door, from the same seed whichever others are tried."""
    with opened() as place:
        for name in names:
            yield doors[name](place, Random(f"{seed} {name}"), count)


def to_json(all_figures: list[Figures]) -> str:
    return json.dumps([{name: getattr(each, name) for name in each.__slots__} for each in all_figures])
