"""What a chaos run breaks: real servers, and a fleet of real processes born in a nursery."""

import json
import os
import shutil
import signal
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

from config.profiles import profile_directories, read_profile
from models.crypto.secrets import Secret
from models.crypto.vault import new_key
from models.migrations import migrate
from models.oauth.connect_link import ConnectLink, sign_link
from models.store import open_engine
from sandbox.client import Control
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
from tests.torture.chaos.points import Armoury

Database = Literal["sqlite", "postgresql"]

grace_seconds = 20
"""Long enough that most second tries of a busy fleet are in time, and short enough that some are not."""


@dataclass
class Born:
    """A process of the fleet with those that it starts, by its group."""

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
        """SIGTERM to the leader, as whoever runs a fleet stops it."""
        self.stopping = True
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)


class Nursery:
    """Where processes are born; all of them end when it does."""

    def __init__(self, environment: Mapping[str, str], directory: Path) -> None:
        self.directory = directory
        self.born = 0
        self._log = (directory / "nursery.log").open("ab")
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

    def bear(self, program: str, environment: Mapping[str, str] | None = None, **options: object) -> Born:
        self.born += 1
        name = f"{program}-{self.born}"
        log = self.directory / f"{name}.log"
        order = {"program": program, "log": str(log), "environment": environment or {}, "options": options}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise ChildProcessError((self.directory / "nursery.log").read_text(errors="replace")[-4000:])
        return Born(name, int(answer), log)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()


@dataclass
class Stage:
    """The servers and the fleet, with hands for all that a run does to them."""

    database: Database
    database_url: str
    engine: Engine
    postgres: PostgresServer | None
    valkey: Valkey
    control: Control
    client_id: str
    web_url: str
    environment: dict[str, str]
    keys: list[str]
    nursery: Nursery
    armoury: Armoury
    directory: Path
    workers: list[Born] = field(default_factory=list)
    schedulers: list[Born] = field(default_factory=list)

    def start_worker(self, threads: int = 4) -> None:
        self.workers.append(self.nursery.bear("worker", self._keys_now(), threads=threads))

    def start_scheduler(self) -> None:
        self.schedulers.append(self.nursery.bear("scheduler", self._keys_now()))

    def turn_keys(self) -> Born:
        """From now on another key seals: in every process born later, and in all that is sealed already."""
        self.keys.append(self.keys.pop(0))
        return self.nursery.bear("rotate", self._keys_now())

    def _keys_now(self) -> dict[str, str]:
        return {"ENCRYPTION_KEYS": ",".join(self.keys)}

    def keep(self, target: Path) -> None:
        """Copies what the processes said and came by, and the database where it is a file."""
        shutil.copytree(self.directory, target, dirs_exist_ok=True)

    def be_patient(self) -> None:
        """From now on a busy database is waited for: nothing breaks it any more."""
        arguments = {"timeout": 30} if self.postgres is None else {"connect_timeout": 10}
        self.engine = create_engine(self.database_url, poolclass=NullPool, connect_args=arguments)

    def rows(self, query: str, **values: object) -> list[Any]:
        """Raises SQLAlchemy's errors where the database is away."""
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
        """Sends a message as an application does; False where Redis is away."""
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
        """The browser's part from the link to the callback: the authorization's id, None where the web process could
        not do its part just now."""
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
def set_stage(database: Database, *, workers: int, schedulers: int, reuse: str = "harmless") -> Iterator[Stage]:
    """Everything started on an empty database, and gone when the block ends."""
    with ExitStack() as stack:
        directory = stack.enter_context(temporary_directory())
        valkey = stack.enter_context(running_valkey(persistent=True))
        postgres = None
        if database == "postgresql":
            user = "nobody" if os.geteuid() == 0 else None
            postgres = stack.enter_context(own_postgres(user, synchronous_commit="on"))
            database_url = postgres.url.render_as_string(False)
            engine = create_engine(
                database_url,
                poolclass=NullPool,
                connect_args={"connect_timeout": 1, "options": "-c statement_timeout=1000"},
            )
        else:
            database_url = f"sqlite:///{directory}/breezesync.db"
            engine = create_engine(database_url, poolclass=NullPool, connect_args={"timeout": 0.3})
        web_port, sandbox_port = stack.enter_context(reserved_port()), stack.enter_context(reserved_port())
        web_url, provider_url = f"http://127.0.0.1:{web_port}", f"http://127.0.0.1:{sandbox_port}"
        redirect_uri = f"{web_url}/auth/breezedoc/callback"
        limits = ("--rate-limit", "0", "--token-rate-limit", "0")
        command = [
            sys.executable,
            "-m",
            "sandbox",
            "--port",
            str(sandbox_port),
            "--redirect-uri",
            redirect_uri,
            *limits,
        ]
        (directory / "sandbox").mkdir()
        provider = ServerProcess(command, directory / "sandbox")
        stack.callback(provider.stop)
        provider.wait_until_ready(lambda: answers(f"{provider_url}/healthz"))
        control = stack.enter_context(Control(provider_url))
        control.set(refresh_reuse=reuse, grace_seconds=grace_seconds)
        profile = {
            "BREEZEDOC_AUTHORIZE_URL": f"{provider_url}/oauth/authorize",
            "BREEZEDOC_TOKEN_URL": f"{provider_url}/oauth/token",
            "BREEZEDOC_API_URL": f"{provider_url}/api",
            "BREEZEDOC_REFRESH_REUSE": reuse,
            "BREEZEDOC_GRACE_SECONDS": str(grace_seconds),
            "BREEZEDOC_TOKEN_REQUESTS_PER_MINUTE": "10000",
        }
        keys = [new_key(name).line().reveal() for name in ("k1", "k2", "k3")]
        environment = {
            **plain_environment(),
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONUNBUFFERED": "1",
            "CHAOS_DIRECTORY": str(directory / "points"),
            "DATABASE_URL": database_url,
            "REDIS_URL": valkey.url,
            "ENCRYPTION_KEYS": ",".join(keys),
            "CONNECT_SECRET": uuid4().hex,
            "RETURN_ORIGINS": "https://app.example",
            "SWEEP_INTERVAL": "250ms",
            "BREEZEDOC_CLIENT_ID": "sandbox-client",
            "BREEZEDOC_CLIENT_SECRET": "sandbox-secret",
            "BREEZEDOC_REDIRECT_URI": redirect_uri,
            **profile,
        }
        opened = open_engine(Secret(database_url))
        migrate(opened, [read_profile("breezedoc", profile, profile_directories())])
        opened.dispose()
        nursery = Nursery(environment, directory)
        stack.callback(nursery.close)
        stage = Stage(
            database,
            database_url,
            engine,
            postgres,
            valkey,
            control,
            "sandbox-client",
            web_url,
            environment,
            keys,
            nursery,
            Armoury(directory / "points"),
            directory,
        )
        nursery.bear("web", port=web_port)
        for _ in range(workers):
            stage.start_worker()
        for _ in range(schedulers):
            stage.start_scheduler()
        wait_until(lambda: answers(f"{web_url}/readyz"), "the web process is ready", 60)
        yield stage


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=1).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def write_lock(database_url: str) -> Iterator[None]:
    """Somebody else's write on a SQLite file, for as long as the block takes."""
    held = sqlite3.connect(database_url.removeprefix("sqlite:///"), timeout=5, isolation_level=None)
    try:
        held.execute("BEGIN IMMEDIATE")
        yield
    finally:
        with suppress(sqlite3.OperationalError):
            held.execute("ROLLBACK")
        held.close()
