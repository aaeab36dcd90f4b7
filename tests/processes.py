"""A whole breezesync as real processes for tests: web, workers and schedulers, each to be stopped, paused or killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from uuid import uuid4

import dramatiq
import httpx
import redis
from dramatiq.brokers.redis import RedisBroker
from sqlalchemy import Executable, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

import sandbox
from models.crypto.secrets import Secret
from models.crypto.vault import new_key
from models.oauth.connect_link import ConnectLink, sign_link
from tests.browsing import follow_link
from tests.databases import prepare_database
from tests.event_assertions import assert_all_described
from tests.servers import plain_environment, reserved_port, wait_until

CHECKOUT = Path(__file__).parents[1]
APPLICATION = "https://app.example"
"""The origin of the application that these tests play."""

STOPPING = 30.0
"""Seconds after SIGTERM within which a process has to have ended."""

# Holds the reading end of a pipe from the tests' process, and ends the group when that process is gone.
WATCHDOG = 'read -r _; kill -KILL -- -"$1"'


class Program:
    """One process with the processes it starts, as a group in a session of its own; what it says goes to `log`.

    It is a Python module, or what `command` says; `output` is a file descriptor for what it prints, instead of `log`.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        command: Sequence[str] = (sys.executable, "-m"),
        output: int | None = None,
    ) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *arguments],
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log if output is None else output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", WATCHDOG, "watchdog", str(self.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    @property
    def takes_sigterm(self) -> bool:
        """Whether SIGTERM stops it in good order: while a Python process starts, it just ends it."""
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines())
        masks = int(status["SigCgt"], 16) | int(status["SigBlk"], 16)
        return bool(masks >> (signal.SIGTERM - 1) & 1)

    def pause(self) -> None:
        """SIGSTOP to the whole group: nothing of it does anything until `resume`."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._dismiss()

    def stop(self) -> int:
        """Send SIGTERM as an operator does and return the exit code; AssertionError if it does not end in time."""
        self.resume()
        self._process.terminate()
        return self.wait()

    def wait(self) -> int:
        """Return the exit code once it ends by itself; AssertionError if it does not in time."""
        try:
            code = self._process.wait(STOPPING)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not stop within {STOPPING:g} s:\n{self.tail()}") from None
        self._dismiss()
        return code

    def tail(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _dismiss(self) -> None:
        self._process.wait()
        self._watchdog.kill()
        self._watchdog.communicate()


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a stream, as an application sees it; `document` is its CloudEvents JSON, read."""

    stream: str
    id: str
    type: str
    user_id: str
    connection_id: str
    sequence: int
    document: Mapping[str, Any]

    @property
    def data(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.document["data"]
        return found


class Listener:
    """An application that reads both streams from the moment it is made, and keeps every event."""

    streams = ("breezesync:events", "breezesync:records")

    def __init__(self, url: str) -> None:
        self._redis: Any = redis.Redis.from_url(url, decode_responses=True)
        newest = {key: self._redis.xrevrange(key, count=1) for key in self.streams}
        self._positions = {key: found[0][0] if found else "0" for key, found in newest.items()}
        self.heard: list[Event] = []

    def listen(self) -> list[Event]:
        """Reads on to the end of both streams; everything heard so far, repeats included."""
        while found := self._redis.xread(self._positions, count=1000):
            for key, entries in found:
                self.heard.extend(read_entry(key, fields) for _, fields in entries)
                self._positions[key] = entries[-1][0]
        return self.heard

    def about(self, connection_id: str, prefix: str = "") -> list[Event]:
        """What was heard of one connection, events whose type begins with `prefix`, in order."""
        return [e for e in self.listen() if e.connection_id == connection_id and e.type.startswith(prefix)]

    def close(self) -> None:
        self._redis.close()


def read_entry(stream: str, fields: Mapping[str, str]) -> Event:
    """An entry's fields; AssertionError if they differ from the CloudEvents document in them."""
    document = json.loads(fields["event"])
    assert document["specversion"] == "1.0"
    assert document["id"] == fields["id"]
    assert document["type"] == f"dev.breezesync.{fields['type']}"
    assert document["source"] == f"/breezesync/{fields['provider']}"
    assert document["sequence"] == fields["sequence"]
    assert document["dataschema"].startswith(f"urn:breezesync:schema:{fields['type']}:")
    assert datetime.fromisoformat(document["time"]).tzinfo is not None
    names = ("provider", "user_id", "connection_id")
    assert {name: document["data"][name] for name in names} == {name: fields[name] for name in names}
    return Event(
        stream,
        fields["id"],
        fields["type"],
        fields["user_id"],
        fields["connection_id"],
        int(fields["sequence"]),
        document,
    )


@dataclass
class Fleet:
    """Processes that share one database, one Redis and one provider, by default the sandbox."""

    web_url: str
    operator_url: str
    database_url: str
    redis_url: str
    provider: sandbox.Running
    environment: Mapping[str, str]
    directory: Path
    programs: list[Program] = field(default_factory=list)
    provider_name: str = "breezedoc"

    @property
    def control(self) -> sandbox.Control:
        return self.provider.control

    def start_web(self) -> Program:
        port = self.web_url.rsplit(":", 1)[1]
        return self._start("web", "uvicorn", "--factory", "worker.main:web", "--port", port)

    def start_worker(self, threads: int = 4, grace_ms: int = 25_000) -> Program:
        """A stopping worker gives up on what it has not finished after `grace_ms`."""
        options = ("--processes=1", f"--threads={threads}", f"--worker-shutdown-timeout={grace_ms}")
        return self._start("worker", "dramatiq", "worker.main:boot", *options)

    def start_gateway(self, port: int) -> Program:
        return self._start("gateway", "uvicorn", "--factory", "worker.main:gateway", "--port", str(port))

    def start_scheduler(self) -> Program:
        return self._start("scheduler", "scheduler")

    def _start(self, name: str, *arguments: str) -> Program:
        count = sum(program.name.startswith(name) for program in self.programs)
        program = Program(f"{name}-{count + 1}", arguments, self.environment_of(name), self.directory)
        self.programs.append(program)
        return program

    def environment_of(self, process: str) -> dict[str, str]:
        """The variables of all processes, and in their place those of this one, which are named PROCESS.VARIABLE."""
        own = {name.removeprefix(f"{process}."): value for name, value in self.environment.items() if "." in name}
        shared = {name: value for name, value in self.environment.items() if "." not in name}
        return shared | {name: value for name, value in own.items() if "." not in name}

    def is_ready(self) -> bool:
        """Return whether every part works and the public listener, which is the last to listen, answers."""
        try:
            ready = httpx.get(f"{self.operator_url}/readyz", trust_env=False).status_code == 200
            return ready and httpx.get(self.web_url, trust_env=False).status_code == 404
        except httpx.TransportError:
            return False

    def wait_until(self, holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """As `tests.servers.wait_until`; the error brings the end of every log."""
        try:
            wait_until(holds, what, seconds)
        except TimeoutError as error:
            for program in self.programs:
                error.add_note(f"--- {program.name}, {'running' if program.runs else 'ended'}\n{program.tail()}")
            raise

    def pause(self, program: Program) -> None:
        """SIGSTOP between two of its transactions: who stands still inside one keeps SQLite's only lock from all."""

        def is_paused_outside() -> bool:
            program.pause()
            if self._can_write():
                return True
            program.resume()
            return False

        self.wait_until(is_paused_outside, f"{program.name} stands still outside a transaction")

    def _can_write(self) -> bool:
        if not self.database_url.startswith("sqlite"):
            return True
        engine = create_engine(self.database_url, poolclass=NullPool, connect_args={"timeout": 0})
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            return True
        except OperationalError:
            return False

    def stop(self) -> None:
        """SIGTERM to every process that still runs."""
        running = [program for program in self.programs if program.runs]
        for program in running:
            program.stop()

    def link(self, user_id: str, **claims: Any) -> str:
        """The URL of a connect link, signed as an application signs it."""
        now = datetime.now(UTC)
        link = ConnectLink(
            user_id=user_id, issued_at=now, expires_at=now + timedelta(minutes=5), jti=uuid4().hex, **claims
        )
        secret = Secret(self.environment["CONNECT_SECRET"])
        return f"{self.web_url}/auth/{self.provider_name}?token={sign_link(link, secret)}"

    def consent(self, user_id: str, account: int, **claims: Any) -> str:
        """Plays the user's browser, without one, from the link to the callback; the URL of the result page."""
        with httpx.Client(trust_env=False) as browser:
            asked = follow_link(browser, self.link(user_id, **claims))
            back = browser.get(self.authorize(asked, account))
            assert back.status_code == 303, back.text
        return urljoin(str(back.url), back.headers["location"])

    def authorize(self, asked: str, account: int) -> str:
        """Plays the user's yes at the provider; the URL of our callback that the browser is sent to."""
        return self.control.authorize(asked, account)

    def outcome(self, result_url: str) -> dict[str, Any]:
        """What the result page says once it is decided."""
        answers: list[dict[str, Any]] = []

        def is_decided() -> bool:
            asked = httpx.get(result_url, headers={"Accept": "application/json"}, trust_env=False)
            answers.append(asked.json())
            return bool(answers[-1]["status"] != "pending")

        self.wait_until(is_decided, "the result page says what came of it")
        return answers[-1]

    def connect(self, user_id: str, account: int, **claims: Any) -> str:
        """The id of the connection that a user's yes has made."""
        outcome = self.outcome(self.consent(user_id, account, **claims))
        assert outcome["status"] == "connected", outcome
        return str(outcome["connection_id"])

    def ask(self, actor: str, queue: str, **ids: str) -> None:
        """Sends a message as an application does that knows only the names of actor, queue and ids."""
        broker = RedisBroker(url=self.redis_url)  # type: ignore[no-untyped-call]
        broker.enqueue(dramatiq.Message(queue_name=queue, actor_name=actor, args=(), kwargs=ids, options={}))
        broker.close()

    def rows(self, query: str, **values: Any) -> list[Any]:
        """What the database answers to an application's query."""
        with create_engine(self.database_url, poolclass=NullPool).connect() as connection:
            return list(connection.execute(text(query), values).all())

    def change(self, *statements: Executable) -> None:
        """Change rows without the processes, all at once."""
        with create_engine(self.database_url, poolclass=NullPool).begin() as connection:
            for statement in statements:
                connection.execute(statement)

    def has_synced(self, listener: Listener, connection_id: str, times: int = 1) -> None:
        """Return once that many syncs of the connection have completed."""
        self.wait_until(
            lambda: len(listener.about(connection_id, "sync.completed")) >= times,
            f"sync.completed for the {times}. time",
        )


@contextmanager
def running_fleet(
    database_url: str,
    redis_url: str,
    directory: Path,
    *,
    workers: int = 1,
    schedulers: int = 1,
    **settings: str,
) -> Iterator[Fleet]:
    """A fleet on an empty database, ready to be used, that has stopped in good order when the block ends.

    `settings` are variables of the environment, beside those that the fleet needs in any case; one that is named
    PROCESS.VARIABLE is a process's own: of web, worker, scheduler.
    """
    with reserved_port() as port, reserved_port() as operator_port:
        web_url = f"http://127.0.0.1:{port}"
        operator_url = f"http://127.0.0.1:{operator_port}"
        redirect_uri = f"{web_url}/auth/breezedoc/callback"
        with sandbox.running(redirect_uris=(redirect_uri,)) as provider:
            endpoints = {
                "BREEZEDOC_AUTHORIZE_URL": f"{provider.url}/oauth/authorize",
                "BREEZEDOC_TOKEN_URL": f"{provider.url}/oauth/token",
                "BREEZEDOC_API_URL": f"{provider.url}/api",
            }
            own = {
                "BREEZEDOC_CLIENT_ID": provider.client_id,
                "BREEZEDOC_CLIENT_SECRET": provider.client_secret,
                "BREEZEDOC_REDIRECT_URI": redirect_uri,
                **endpoints,
                **settings,
            }
            environment = environment_with(database_url, redis_url, operator_port, own)
            prepare_database(database_url)
            fleet = Fleet(web_url, operator_url, database_url, redis_url, provider, environment, directory)
            with running_processes(fleet, workers, schedulers):
                yield fleet
                fleet.stop()
                assert_all_described(database_url)


def environment_with(
    database_url: str, redis_url: str, operator_port: int, settings: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables of a fleet: those that it needs in any case, and `settings` beside or in place of them."""
    return {
        **plain_environment(),
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONUNBUFFERED": "1",
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "ENCRYPTION_KEYS": new_key("k1").line().reveal(),
        "CONNECT_SECRET": uuid4().hex,
        "RETURN_ORIGINS": APPLICATION,
        "OPERATOR_ADDRESS": f"127.0.0.1:{operator_port}",
        "SWEEP_INTERVAL": "250ms",
        **settings,
    }


@contextmanager
def running_processes(fleet: Fleet, workers: int, schedulers: int) -> Iterator[None]:
    """Start a fleet's processes; those that still run when the block ends are killed."""
    try:
        fleet.start_web()
        for _ in range(workers):
            fleet.start_worker()
        for _ in range(schedulers):
            fleet.start_scheduler()
        fleet.wait_until(fleet.is_ready, "the web process is ready")
        yield
    finally:
        for program in fleet.programs:
            program.kill()
