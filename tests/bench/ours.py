"""Our side: a worker as production runs it, on connections whose tokens are sealed as a real authorization's are."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import dramatiq
import psycopg
from dramatiq.brokers.redis import RedisBroker
from sqlalchemy import create_engine, insert

from models.crypto.secrets import Secret
from models.crypto.vault import Key, Place, Vault, new_key
from models.messaging import messages
from models.oauth.connection import Connection, Status
from models.oauth.credential import Credential
from models.store.connections import table as connection_table
from models.store.credentials import table as credential_table
from models.store.rows import from_connection, names_of
from tests.bench.accounts import EVERYBODY, connection_id
from tests.bench.meters import family_of
from tests.bench.processes import MeasurementFailed, checkout_environment
from tests.bench.provider import access_token, refresh_token
from tests.bench.sides import THREADS
from tests.bench.world import World, name_of
from tests.databases import prepare_database
from tests.processes import Program
from tests.servers import wait_until

CLIENT = "bench"
DUE = MappingProxyType(
    {
        "refresh": "refresh_due_at = now() - interval '1 second', refresh_claimed_until = now() + interval '1 minute'",
        "sync": "sync_due_at = now() - interval '1 second', full_due_at = now() - interval '1 second'",
        "pulse": "sync_due_at = now() - interval '1 second', full_due_at = now() + interval '1 day', "
        "lists_due_at = now() + interval '1 day'",
        "message": "sync_due_at = now() + interval '1 hour'",
    }
)
"""What makes a connection due, as its own past would have; `message` is one that finds nothing to do."""
LATER = MappingProxyType({"refresh": "refresh_due_at"})

WORKER = (
    "dramatiq",
    "worker.main:boot",
    "--processes=1",
    f"--threads={THREADS}",
    "--worker-shutdown-timeout=25000",
    "--skip-logging",
)


@dataclass
class Ours:
    """One worker process, without a scheduler: the bench sends what the scheduler would."""

    world: World
    database_url: str
    environment: Mapping[str, str]
    worker: Program
    broker: RedisBroker
    name: str = "ours"
    jobs: frozenset[str] = frozenset({"refresh", "sync", "pulse", "message", "large", "first"})
    started: list[Program] = field(default_factory=list)

    @property
    def database(self) -> str:
        return name_of(self.database_url)

    def pids(self) -> Sequence[int]:
        return family_of(self.worker.pid)

    def prepare(self, kind: str, accounts: Sequence[int]) -> None:
        due = DUE.get(kind, DUE["sync"])
        self.execute(f"UPDATE connection SET {due} WHERE id = ANY(%s)", [*map(connection_id, accounts)])

    def send(self, kind: str, accounts: Sequence[int]) -> None:
        self.worker.pause()
        message = messages.carry_out_refresh if kind == "refresh" else messages.read_connection
        for account in accounts:
            self.enqueue(message(connection_id(account)))

    def enqueue(self, message: messages.Message) -> None:
        kwargs = dict(message.kwargs)
        sent: dramatiq.Message[None] = dramatiq.Message(
            queue_name=message.queue, actor_name=message.actor, args=(), kwargs=kwargs, options={}
        )
        self.broker.enqueue(sent)

    def work(self) -> None:
        self.wait_until_idle()

    def wait_until_idle(self) -> None:
        """Return once no queue has a message, in work or waiting."""
        self.worker.resume()
        keys = {f"dramatiq:{name}{kind}.msgs": "HLEN" for name in set(messages.QUEUES.values()) for kind in ("", ".DQ")}
        wait_until(lambda: self.world.meters.count_entries(0, keys) == 0, "our worker has done its jobs", 240)

    def check(self, kind: str, accounts: Sequence[int]) -> None:
        """Raise if a job is still due, or an event has not left."""
        column = LATER.get(kind, "sync_due_at")
        undone = f"SELECT count(*) FROM connection WHERE id = ANY(%s) AND ({column} <= now() OR problem IS NOT NULL)"
        if count := self.fetch(undone, [*map(connection_id, accounts)]):
            raise MeasurementFailed(
                f"{count} of {len(accounts)} of our {kind} jobs are not done:\n{self.worker.tail()}"
            )
        wait_until(self._has_published, "all is published")

    def _has_published(self) -> bool:
        """An event may stay behind the publisher that was at work when it came; the scheduler would send for it."""
        left = self.fetch("SELECT count(*) FROM event WHERE published_at IS NULL")
        if left:
            self.enqueue(messages.publish_events())
            self.wait_until_idle()
        return left == 0

    def execute(self, statement: str, *values: object) -> None:
        with psycopg.connect(plain(self.database_url)) as connection:
            connection.execute(statement, values)

    def fetch(self, query: str, *values: object) -> int:
        with psycopg.connect(plain(self.database_url)) as connection:
            found = connection.execute(query, values).fetchone()
        assert found is not None
        return int(found[0])

    def fetch_all(self, query: str) -> list[Any]:
        with psycopg.connect(plain(self.database_url)) as connection:
            return connection.execute(query.encode()).fetchall()

    def start(self, name: str, *arguments: str, **settings: str) -> Program:
        """Start another of our processes; it ends with the side."""
        program = Program(name, arguments, {**self.environment, **settings}, self.world.directory)
        self.started.append(program)
        return program


def plain(database_url: str) -> str:
    return database_url.replace("+psycopg", "")


@contextmanager
def running_ours(world: World, **settings: str) -> Iterator[Ours]:
    url, key = world.databases.create_database(), new_key("k1")
    prepare_database(url)
    connect_everybody(url, key)
    environment = environment_of(world, url, key) | settings
    broker = RedisBroker(url=world.redis(0))  # type: ignore[no-untyped-call]
    ours = Ours(world, url, environment, Program("worker", WORKER, environment, world.directory), broker)
    try:
        yield ours
    finally:
        for program in (ours.worker, *ours.started):
            program.kill()
        broker.close()


def environment_of(world: World, database_url: str, key: Key) -> dict[str, str]:
    """Return what our processes need to know; no limit of requests is in the way."""
    return {
        **checkout_environment(),
        "DATABASE_URL": database_url,
        "REDIS_URL": world.redis(0),
        "ENCRYPTION_KEYS": key.line().reveal(),
        "CONNECT_SECRET": uuid4().hex,
        "CONNECT_CONFIRMATION": "off",
        "TRUSTED_PROXIES": "127.0.0.1",
        "OPERATOR_ADDRESS": "",
        "BREEZEDOC_CLIENT_ID": CLIENT,
        "BREEZEDOC_CLIENT_SECRET": "a secret of the bench",
        "BREEZEDOC_REDIRECT_URI": "http://127.0.0.1:8700/auth/breezedoc/callback",
        "BREEZEDOC_AUTHORIZE_URL": f"{world.provider.url}/oauth/authorize",
        "BREEZEDOC_TOKEN_URL": f"{world.provider.url}/oauth/token",
        "BREEZEDOC_API_URL": f"{world.provider.url}/api",
        "BREEZEDOC_API_REQUESTS_PER_MINUTE": "1000000",
        "BREEZEDOC_TOKEN_REQUESTS_PER_MINUTE": "1000000",
        "BREEZEDOC_MASS_REFUSAL_COUNT": "1000",
    }


def connect_everybody(database_url: str, key: Key) -> None:
    """Write the connections as authorizations would have, an hour ago."""
    vault, now = Vault((key,)), datetime.now(UTC)
    ends = now + timedelta(days=364)
    connections, credentials = [], []
    for account in EVERYBODY:
        id_ = connection_id(account)
        connections.append(
            Connection(
                id=id_,
                user_id=f"user-{account}",
                provider="breezedoc",
                client_id=CLIENT,
                account_id=str(account),
                email=f"user{account}@example.com",
                status=Status.active,
                created_at=now - timedelta(hours=1),
                generation=1,
                expires_at=ends,
                refresh_due_at=ends - timedelta(days=60),
                sync_due_at=ends,
            )
        )
        access = vault.seal(Secret(access_token(account, 1)), Place("credential", id_, "access_token", 1))
        refresh = vault.seal(Secret(refresh_token(account, 1)), Place("credential", id_, "refresh_token", 1))
        credentials.append(Credential(id_, access, refresh, issued_at=now, expires_at=ends))
    columns = names_of(Credential)
    engine = create_engine(database_url)
    with engine.begin() as sql:
        sql.execute(insert(connection_table), [from_connection(each) for each in connections])
        sql.execute(insert(credential_table), [{n: getattr(each, n) for n in columns} for each in credentials])
    engine.dispose()
