"""Many connections in one process: real flows, a real store, a model of the provider, and a clock that is turned."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fakeredis
from sqlalchemy import event, insert, select, text, update

from models.api_response import ApiOutcome, Page, Unauthorized
from models.crypto.secrets import Secret
from models.crypto.vault import Place, Vault, new_key
from models.http import HttpAnswer, NoAnswer
from models.migrations import migrate
from models.oauth.client import OAuthClient, StoredClient
from models.oauth.connection import Connection, Status
from models.oauth.credential import Credential
from models.oauth.refresh_policy import Patience, refresh_due_at, spread
from models.oauth.token_response import TokenOutcome, read_token_answer
from models.provider import Provider, RefreshReuse, Resource
from models.store import Store, open_engine
from models.store.connections import table as connection_table
from models.store.credentials import table as credential_table
from models.store.rows import from_connection, names_of
from scheduler.sweep import Sweep
from tests.harness import ListQueue, NoLimit
from tests.servers import running_postgres
from worker.oauth.probe_client import ProbeClient
from worker.oauth.refresh import Refresh
from worker.provider.client import Called
from worker.sync.run import Sync
from worker.tokens.oauth_clients import OAuthClients
from worker.tokens.spool import Parking

Answer = HttpAnswer | NoAnswer
name, client_id = "model", "client"


class TurnedClock:
    """Stands still until it is turned."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 27, 8, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time


@dataclass
class Token:
    """A refresh token; `is_spent` by a rotation, `is_dead` with its family."""

    account: str
    access: str
    is_spent: bool = False
    presentations: int = 0


@dataclass
class ModelServer:
    """A provider that rotates; `breaks` answers in its place, `is_rekeyed` while it can read none of its own tokens."""

    now: Callable[[], datetime]
    reuse: RefreshReuse
    access_life: timedelta
    breaks: Callable[[], Answer] | None = None
    is_rekeyed: bool = False
    api_is_away: bool = False
    tokens: dict[str, Token] = field(default_factory=dict)
    access: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    requests: list[tuple[datetime, str]] = field(default_factory=list)
    numbers: "count[int]" = field(default_factory=lambda: count(1))

    def grant(self, account: str) -> tuple[str, str]:
        """Return a new pair: access token, refresh token."""
        number = next(self.numbers)
        access, refresh = f"access-{number}", f"refresh-{number}"
        self.access[access] = (account, self.now() + self.access_life)
        self.tokens[refresh] = Token(account, access)
        return access, refresh

    def present(self, value: str) -> Answer:
        """Answer a refresh."""
        self.requests.append((self.now(), "refresh"))
        token = self.tokens[value]
        token.presentations += 1
        return self.breaks() if self.breaks is not None else self.run(value)

    def run(self, value: str) -> HttpAnswer:
        """Run the grant, whatever becomes of its answer."""
        token = self.tokens[value]
        if self.is_rekeyed:
            return refuse(401, "invalid_request", "Cannot decrypt the refresh token")
        if token.account in self.revoked:
            return refuse(401, "invalid_request", "Token has been revoked")
        if token.is_spent:
            if self.reuse != "harmless":
                self.revoked.add(token.account)
            return refuse(401, "invalid_request", "Token has been revoked")
        token.is_spent = True
        self.access.pop(token.access, None)
        access, refresh = self.grant(token.account)
        body = {"access_token": access, "refresh_token": refresh, "expires_in": self.access_life.total_seconds()}
        return as_json(200, body)

    def probe(self) -> Answer:
        """Answer a refresh without a refresh token."""
        self.requests.append((self.now(), "probe"))
        return self.breaks() if self.breaks is not None else refuse(400, "invalid_request", "Check the `refresh_token`")

    def read(self, access: str) -> ApiOutcome:
        account, ends = self.access.get(access, ("", self.now()))
        lets_in = not self.is_rekeyed and account not in self.revoked and self.now() < ends
        return Page(({"id": int(account)},), 1, 1, 1) if lets_in else Unauthorized()


@dataclass
class ModelClient:
    """Speaks to the model as `ProviderClient` speaks to a server."""

    server: ModelServer
    provider: Provider
    now: Callable[[], datetime]
    patience: Patience = field(default_factory=Patience)

    def refresh(self, client: Any, token: Secret, scope: str, send_before: datetime) -> Called[TokenOutcome]:
        return self.called(self.server.present(token.reveal()))

    def probe(self, client: Any) -> Called[TokenOutcome]:
        return self.called(self.server.probe())

    def called(self, answer: Answer) -> Called[TokenOutcome]:
        status, sent = (answer.status, True) if isinstance(answer, HttpAnswer) else (0, answer.sent)
        outcome = read_token_answer("refresh_token", answer, self.now())
        return Called(outcome, self.now(), "POST", "/token", status, 1, sent)

    def read_account(self, token: Secret, account_id: str | None = None) -> Called[ApiOutcome]:
        outcome = self.server.read(token.reveal())
        return Called(outcome, self.now(), "GET", "/me", 200 if isinstance(outcome, Page) else 401, 1)

    def allow(self, account_id: str) -> NoLimit:
        return NoLimit()

    def read_page(self, resource: Any, path: str, asked: Any, token: Secret, *unused: Any) -> Called[ApiOutcome]:
        return self.read_account(token)


@dataclass
class World:
    """A fleet in one process: what is due is swept and done, and then the clock is turned."""

    store: Store
    vault: Vault
    server: ModelServer
    clock: TurnedClock
    profile: Provider
    refresh: Refresh
    probe: ProbeClient
    sync: Sync
    queue: ListQueue

    def connect(self, number: int) -> None:
        """Add that many connections at once, each with a pair of its own, their ages spread over a pair's life."""
        connections, credentials = [], []
        for each in range(number):
            access, refresh = self.server.grant(str(each))
            id_ = f"c{each:05}"
            sealed = {
                "access_token": self._seal(access, id_, "access_token"),
                "refresh_token": self._seal(refresh, id_, "refresh_token"),
            }
            issued_at = self.clock() - self.server.access_life * 0.6 * (each / number)
            due = refresh_due_at(issued_at, self.server.access_life, spread(id_, 1))
            ends = issued_at + self.server.access_life
            self.server.access[access] = (str(each), ends)
            connections.append(
                Connection(
                    id=id_,
                    user_id=f"user-{each}",
                    provider=name,
                    client_id=client_id,
                    account_id=str(each),
                    status=Status.active,
                    created_at=self.clock(),
                    generation=1,
                    expires_at=ends,
                    refresh_due_at=due,
                )
            )
            credentials.append(Credential(id_, issued_at=issued_at, expires_at=ends, **sealed))
        with self.store.writing() as tx:
            tx.sql.execute(insert(connection_table), [from_connection(each) for each in connections])
            columns = names_of(Credential)
            tx.sql.execute(insert(credential_table), [{n: getattr(each, n) for n in columns} for each in credentials])

    def _seal(self, value: str, id_: str, field_: str) -> Any:
        return self.vault.seal(Secret(value), Place("credential", id_, field_, 1))

    def pass_time(self, length: timedelta, step: timedelta = timedelta(seconds=2)) -> None:
        """Sweep and work, step by step, until so much time has passed."""
        end = self.clock.time + length
        while self.clock.time < end:
            self.work()
            self.clock.time += step

    def work(self) -> None:
        Sweep(self.store, self.queue, self.clock, {name: self.profile.token_requests_per_minute})()
        actors: Mapping[str, Callable[..., None]] = {
            "carry_out_refresh": self.refresh,
            "probe_client": self.probe,
            "carry_out_sync": lambda connection_id: self.sync(connection_id, asked=False),
            "read_connection": lambda connection_id: self.sync(connection_id, asked=False),
        }
        while self.queue.held:
            message = self.queue.held.pop(0)
            if message.actor in actors:
                actors[message.actor](**message.kwargs)

    def client(self) -> StoredClient:
        with self.store.reading() as tx:
            found = tx.clients.get(name, client_id)
        return found or StoredClient(name, client_id)

    def count(self, *conditions: Any) -> int:
        """Return how many connections meet the conditions."""
        with self.store.reading() as tx:
            return len(tx.sql.execute(select(connection_table.c.id).where(*conditions)).all())

    def count_active(self) -> int:
        return self.count(connection_table.c.status == "active")

    def count_unknown(self) -> int:
        """Return how many active connections have a presentation whose outcome is not known."""
        query = select(credential_table.c.connection_id).where(
            credential_table.c.presented_at.is_not(None), credential_table.c.connection_id == connection_table.c.id
        )
        return self.count(connection_table.c.status == "active", query.exists())

    def ids(self, number: int) -> list[str]:
        """Return the active connections that fall due first, as many as asked for."""
        column = connection_table.c
        query = select(column.id).where(column.status == "active").order_by(column.refresh_due_at).limit(number)
        with self.store.reading() as tx:
            return list(tx.sql.execute(query).scalars())

    def make_sync_due(self, id_: str, at: datetime) -> None:
        with self.store.writing() as tx:
            tx.sql.execute(update(connection_table).where(connection_table.c.id == id_).values(sync_due_at=at))

    def count_held(self) -> int:
        with self.store.reading() as tx:
            return tx.refusals.count_held(name, client_id)

    def count_erased(self) -> int:
        """Return how many connections have no refresh token any more."""
        with self.store.reading() as tx:
            query = select(credential_table.c.connection_id).where(credential_table.c.refresh_token.is_(None))
            return len(tx.sql.execute(query).all())

    def ended_at(self) -> dict[str, datetime]:
        """Return when each ended connection ended."""
        column = connection_table.c
        with self.store.reading() as tx:
            rows = tx.sql.execute(select(column.id, column.revoked_at).where(column.revoked_at.is_not(None))).all()
        return {row[0]: row[1] for row in rows}

    def called(self, answer: Answer) -> Called[TokenOutcome]:
        """Return what a flow gets for this answer."""
        client: Any = self.refresh.providers[name]
        called: Called[TokenOutcome] = client.called(answer)
        return called

    def count_fresh(self) -> int:
        """Return how many connections have an access token that works now."""
        column = connection_table.c
        return self.count(column.status == "active", column.expires_at > self.clock())

    def told(self) -> Counter[str]:
        """Count the events by type, those of an end with their reason."""
        with self.store.reading() as tx:
            documents = tx.sql.execute(text("SELECT type, document FROM event")).all()
        return Counter(
            f"{type_} {json.loads(document)['data'].get('reason', '')}".strip() for type_, document in documents
        )


def refuse(status: int, error: str, hint: str) -> HttpAnswer:
    return as_json(status, {"error": error, "error_description": "The refresh token is invalid.", "hint": hint})


def as_json(status: int, body: object) -> HttpAnswer:
    return HttpAnswer(status, {"content-type": "application/json"}, json.dumps(body).encode())


@contextmanager
def databases(kind: str) -> Iterator[Callable[[], str]]:
    """Make database URLs, each of an empty database."""
    numbers = count()
    if kind == "sqlite":
        with TemporaryDirectory() as directory:
            yield lambda: f"sqlite:///{directory}/{next(numbers)}.db"
        return
    with running_postgres() as server:
        yield server.create_database


@contextmanager
def world_on(database_url: str, reuse: RefreshReuse, access_life: timedelta, **profile: Any) -> Iterator[World]:
    """A world without connections, on an empty database."""
    clock = TurnedClock()
    engine = open_engine(Secret(database_url))
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    made = Provider(
        name=name,
        authorize_url="https://model.example/authorize",
        token_url="https://model.example/token",
        api_url="https://model.example/api",
        refresh_reuse=reuse,
        resources=(Resource(name="account", path="/me"),),
        **profile,
    )
    migrate(engine, [])
    store, vault, queue = Store(engine), Vault((new_key("k1"),)), ListQueue()
    server = ModelServer(clock, reuse, access_life)
    client = OAuthClient(
        provider=name, client_id=client_id, client_secret=Secret("secret"), redirect_uri="https://a.example/b"
    )
    clients = OAuthClients(store, vault, (client,))
    providers: Any = {name: ModelClient(server, made, clock)}
    with TemporaryDirectory() as spool:
        parking = Parking(vault, fakeredis.FakeRedis(server=fakeredis.FakeServer()), Path(spool))
        yield World(
            store,
            vault,
            server,
            clock,
            made,
            Refresh(store, vault, clients, providers, parking, queue.send, clock),
            ProbeClient(store, clients, providers, queue.send, clock),
            Sync(store, vault, providers, queue.send, clock, timedelta(minutes=15)),
            queue,
        )
    store.close()
