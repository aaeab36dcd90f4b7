"""What a chaos run breaks: real servers, and a fleet of real processes forked from one server."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import dramatiq
import httpx
import redis
from dramatiq.brokers.redis import RedisBroker
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

from models.crypto.secrets import Secret
from models.crypto.vault import new_key
from models.oauth.connect_link import ConnectLink, sign_link
from sandbox.client import Control
from tests.databases import prepare_database
from tests.processes import CHECKOUT
from tests.servers import (
    PostgresServer,
    ServerProcess,
    Valkey,
    own_postgres,
    plain_environment,
    reserved_port,
    running_valkey,
    temporary_directory,
    wait_until,
)
from tests.torture.chaos.points import ArmedPoints

Database = Literal["sqlite", "postgresql"]

grace_seconds = 20
"""Long enough that most second tries of a busy fleet are in time, and short enough that some are not."""


@dataclass
class Child:
    """A process of the fleet and those that it starts, as one process group."""

    name: str
    pid: int
    log: Path
    stopping: bool = False

    @property
    def runs(self) -> bool:
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def ask_to_stop(self) -> None:
        """Send SIGTERM to the leader, as an operator stops a process."""
        self.stopping = True
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)


class ForkServer:
    """The process that forks all others; they end when it does."""

    def __init__(self, environment: Mapping[str, str], directory: Path) -> None:
        self.directory = directory
        self.started = 0
        self._log = (directory / "forkserver.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.torture.chaos.forkserver"],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
            text=True,
        )

    def fork(self, program: str, environment: Mapping[str, str] | None = None, **options: object) -> Child:
        self.started += 1
        name = f"{program}-{self.started}"
        log = self.directory / f"{name}.log"
        order = {"program": program, "log": str(log), "environment": environment or {}, "options": options}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise ChildProcessError((self.directory / "forkserver.log").read_text(errors="replace")[-4000:])
        return Child(name, int(answer), log)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()


@dataclass
class ChaosFleet:
    """The servers and the fleet, with a method for each thing that a run does to them."""

    database: Database
    database_url: str
    engine: Engine
    postgres: PostgresServer | None
    valkey: Valkey
    control: Control
    web_url: str
    environment: dict[str, str]
    keys: list[str]
    forks: ForkServer
    points: ArmedPoints
    directory: Path
    workers: list[Child] = field(default_factory=list)
    schedulers: list[Child] = field(default_factory=list)

    def start_worker(self, threads: int = 4) -> None:
        self.workers.append(self.forks.fork("worker", self._keys_now(), threads=threads))

    def start_scheduler(self) -> None:
        self.schedulers.append(self.forks.fork("scheduler", self._keys_now()))

    def rotate_keys(self) -> Child:
        """Seal with another key: in every process started later, and in everything sealed already."""
        self.keys.append(self.keys.pop(0))
        return self.forks.fork("rotate", self._keys_now())

    def _keys_now(self) -> dict[str, str]:
        return {"ENCRYPTION_KEYS": ",".join(self.keys)}

    def keep(self, target: Path) -> None:
        """Copy logs, traces and, on SQLite, the database."""
        shutil.copytree(self.directory, target, dirs_exist_ok=True)

    def wait_for_locks(self) -> None:
        """Wait for a busy database instead of failing: nothing breaks it any more."""
        arguments = {"timeout": 30} if self.postgres is None else {"connect_timeout": 10}
        self.engine = create_engine(self.database_url, poolclass=NullPool, connect_args=arguments)

    def rows(self, query: str, **values: object) -> list[Any]:
        """Return the rows; raise SQLAlchemy's errors if the database does not answer."""
        with self.engine.connect() as sql:
            return list(sql.execute(text(query), values).all())

    def change(self, statement: str, **values: object) -> int:
        with self.engine.begin() as sql:
            return sql.execute(text(statement), values).rowcount

    @contextmanager
    def redis(self) -> Iterator[Any]:
        with redis.Redis.from_url(
            self.valkey.url, decode_responses=True, socket_timeout=2, retry=Retry(NoBackoff(), 0)
        ) as client:
            yield client

    def ask(self, actor: str, queue: str, times: int = 1, **ids: str) -> bool:
        """Send a message as an application does; return False if Redis does not answer."""
        client = redis.Redis.from_url(self.valkey.url, socket_timeout=2, retry=Retry(NoBackoff(), 0))
        broker = RedisBroker(client=client)  # type: ignore[no-untyped-call]
        try:
            for _ in range(times):
                broker.enqueue(dramatiq.Message(queue_name=queue, actor_name=actor, args=(), kwargs=ids, options={}))
        except redis.RedisError:
            return False
        finally:
            client.close()
        return True

    def consent(self, user: str, account: int) -> str | None:
        """Play the browser from the link to the callback; return the authorization's id, or None if the web process
        did not answer."""
        now = datetime.now(UTC)
        link = ConnectLink(user_id=user, issued_at=now, expires_at=now + timedelta(minutes=5), jti=uuid4().hex)
        token = sign_link(link, Secret(self.environment["CONNECT_SECRET"]))
        try:
            with httpx.Client(trust_env=False, timeout=3) as browser:
                asked = browser.get(f"{self.web_url}/auth/breezedoc?token={token}")
                if asked.status_code != 302:
                    return None
                back = browser.get(self.control.authorize(asked.headers["location"], account))
        except httpx.HTTPError:
            return None
        return back.headers["location"].rsplit("/", 1)[1] if back.status_code == 303 else None


@contextmanager
def running_chaos_fleet(
    database: Database, *, workers: int, schedulers: int, reuse: str = "harmless"
) -> Iterator[ChaosFleet]:
    """Start everything on an empty database, and stop and delete it when the block ends."""
    with ExitStack() as stack:
        directory = stack.enter_context(temporary_directory())
        valkey = stack.enter_context(running_valkey(persistent=True))
        postgres = None
        if database == "postgresql":
            user = "nobody" if os.geteuid() == 0 else None
            postgres = stack.enter_context(own_postgres(user, synchronous_commit="on"))
            database_url = postgres.url.render_as_string(False)
        else:
            database_url = f"sqlite:///{directory}/breezesync.db"
        prepare_database(database_url)
        web_port, operator_port = (stack.enter_context(reserved_port()) for _ in range(2))
        web_url = f"http://127.0.0.1:{web_port}"
        redirect_uri = f"{web_url}/auth/breezedoc/callback"
        control = stack.enter_context(running_provider(directory / "sandbox", redirect_uri))
        control.set(refresh_reuse=reuse, grace_seconds=grace_seconds)
        keys = [new_key(name).line().reveal() for name in ("k1", "k2", "k3")]
        environment = {
            **plain_environment(),
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONUNBUFFERED": "1",
            "OPERATOR_ADDRESS": f"127.0.0.1:{operator_port}",
            "CHAOS_DIRECTORY": str(directory / "points"),
            "DATABASE_URL": database_url,
            "REDIS_URL": valkey.url,
            "ENCRYPTION_KEYS": ",".join(keys),
            **settings_for(control.url, redirect_uri, reuse),
        }
        forks = ForkServer(environment, directory)
        stack.callback(forks.close)
        fleet = ChaosFleet(
            database=database,
            database_url=database_url,
            engine=open_impatient_engine(database_url),
            postgres=postgres,
            valkey=valkey,
            control=control,
            web_url=web_url,
            environment=environment,
            keys=keys,
            forks=forks,
            points=ArmedPoints(directory / "points"),
            directory=directory,
        )
        forks.fork("web", port=web_port)
        for _ in range(workers):
            fleet.start_worker()
        for _ in range(schedulers):
            fleet.start_scheduler()
        wait_until(lambda: answers(f"http://127.0.0.1:{operator_port}/readyz"), "the web process is ready", 60)
        wait_until(lambda: listens(web_port), "the web process listens", 60)
        yield fleet


def open_impatient_engine(database_url: str) -> Engine:
    """Open an engine that fails within a second while the database is frozen, stopped or locked."""
    impatient: dict[str, Any] = {"timeout": 0.3}
    if not database_url.startswith("sqlite"):
        impatient = {"connect_timeout": 1, "options": "-c statement_timeout=1000"}
    return create_engine(database_url, poolclass=NullPool, connect_args=impatient)


@contextmanager
def running_provider(directory: Path, redirect_uri: str) -> Iterator[Control]:
    """A sandbox without rate limits, in a process of its own."""
    directory.mkdir()
    with reserved_port() as port, Control(f"http://127.0.0.1:{port}") as control:
        limits = ("--rate-limit", "0", "--token-rate-limit", "0")
        command = [sys.executable, "-m", "sandbox", "--port", str(port), "--redirect-uri", redirect_uri, *limits]
        provider = ServerProcess(command, directory)
        try:
            provider.wait_until_ready(lambda: answers(f"http://127.0.0.1:{port}/healthz"))
            yield control
        finally:
            provider.stop()


def settings_for(provider_url: str, redirect_uri: str, reuse: str) -> dict[str, str]:
    """The settings of a fleet whose provider is the sandbox at `provider_url`."""
    return {
        "CONNECT_SECRET": uuid4().hex,
        "RETURN_ORIGINS": "https://app.example",
        "CONNECT_CONFIRMATION": "off",
        "SWEEP_INTERVAL": "250ms",
        "BREEZEDOC_CLIENT_ID": "sandbox-client",
        "BREEZEDOC_CLIENT_SECRET": "sandbox-secret",
        "BREEZEDOC_REDIRECT_URI": redirect_uri,
        "BREEZEDOC_AUTHORIZE_URL": f"{provider_url}/oauth/authorize",
        "BREEZEDOC_TOKEN_URL": f"{provider_url}/oauth/token",
        "BREEZEDOC_API_URL": f"{provider_url}/api",
        "BREEZEDOC_REFRESH_REUSE": reuse,
        "BREEZEDOC_GRACE_SECONDS": str(grace_seconds),
        "BREEZEDOC_TOKEN_REQUESTS_PER_MINUTE": "10000",
        # Half of the users revoke within minutes here, and each is to be told.
        "BREEZEDOC_MASS_REFUSAL_COUNT": "100000",
    }


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=1).status_code == 200
    except httpx.TransportError:
        return False


def listens(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def write_lock(database_url: str) -> Iterator[None]:
    """Hold the write lock of a SQLite file as another process would, for as long as the block takes."""
    connection = sqlite3.connect(database_url.removeprefix("sqlite:///"), timeout=5, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
    finally:
        with suppress(sqlite3.OperationalError):
            connection.execute("ROLLBACK")
        connection.close()
