"""The three sides, each with its own way to prepare, send and finish a batch of jobs."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from tests.bench.accounts import EVERYBODY, LARGE, NEW, SIZES, SMALL
from tests.bench.meters import family_of
from tests.bench.processes import Helper, MeasurementFailed, checkout_environment, helping, python
from tests.bench.provider import FAMILY, access_token, refresh_token, requests_for
from tests.bench.world import World, name_of
from tests.processes import Program
from tests.servers import plain_environment, wait_until
from tests.torture.interop.toolkit import unreachable

THREADS = "8"
RIVAL = Path(__file__).parent / "rival"
ENVIRONMENTS = Path(__file__).parents[2] / "var" / "bench"


@cache
def requests_of(kind: str) -> int:
    """Return what a job asks of the provider: who asks for more or for less does not do the same."""
    sizes = {"sync": SMALL, "large": LARGE, "first": NEW}
    return requests_for(SIZES[sizes[kind]]) if kind in sizes else {"refresh": 1, "pulse": 1, "message": 0}[kind]


class Side(Protocol):
    """`jobs` are the kinds that it can do; `work` returns once a batch is done, and takes no longer than the jobs."""

    @property
    def name(self) -> str: ...
    @property
    def jobs(self) -> frozenset[str]: ...
    @property
    def database(self) -> str: ...
    def pids(self) -> Sequence[int]: ...
    def prepare(self, kind: str, accounts: Sequence[int]) -> None: ...
    def send(self, kind: str, accounts: Sequence[int]) -> None: ...
    def work(self) -> None: ...
    def check(self, kind: str, accounts: Sequence[int]) -> None: ...


class Rival:
    """Celery's worker with a pool of threads, and a process that enqueues."""

    name = "rival"
    jobs = frozenset({"refresh", "sync", "large", "first"})
    keys: Mapping[str, str] = MappingProxyType({"celery": "LLEN", "unacked": "HLEN"})

    def __init__(self, world: World, database: str, worker: Program, sender: Helper) -> None:
        self.world, self.database, self.worker, self.sender = world, database, worker, sender
        self._awaited = 0

    def pids(self) -> Sequence[int]:
        return family_of(self.worker.pid)

    def prepare(self, kind: str, accounts: Sequence[int]) -> None:
        """Nothing is due before it is sent."""

    def send(self, kind: str, accounts: Sequence[int]) -> None:
        self.worker.pause()
        self._awaited = self.world.provider.count_requests() + requests_of(kind) * len(accounts)
        task = "refresh" if kind == "refresh" else "sync"
        self.sender.ask(task=task, accounts=list(accounts))

    def work(self) -> None:
        self.worker.resume()
        wait_until(self._is_done, "the rival has done its tasks", 240)

    def _is_done(self) -> bool:
        """Celery takes a task off its list a moment before it notes it as unacknowledged: the requests tell more."""
        is_asked = self.world.provider.count_requests() >= self._awaited
        return is_asked and self.world.meters.count_entries(1, self.keys) == 0

    def check(self, kind: str, accounts: Sequence[int]) -> None:
        if "Traceback" in self.worker.tail(200):
            raise MeasurementFailed(f"a task of the rival failed:\n{self.worker.tail()}")


class Floor:
    """A process that does nothing else."""

    name = "floor"
    jobs = frozenset({"refresh", "sync"})

    def __init__(self, database: str, helper: Helper) -> None:
        self.database, self.helper = database, helper
        self._next: tuple[str, Sequence[int]] = ("", ())

    def pids(self) -> Sequence[int]:
        return [self.helper.pid]

    def prepare(self, kind: str, accounts: Sequence[int]) -> None:
        """Nothing is due before it is sent."""

    def send(self, kind: str, accounts: Sequence[int]) -> None:
        self._next = kind, accounts

    def work(self) -> None:
        kind, accounts = self._next
        self.helper.ask(task=kind, accounts=list(accounts))

    def check(self, kind: str, accounts: Sequence[int]) -> None:
        """It would have ended."""


@contextmanager
def running_rival(world: World) -> Iterator[Rival]:
    url = world.databases.create_database()
    binaries = rival_environment() / "bin"
    environment = {
        **plain_environment(),
        "DATABASE_URL": url,
        "BROKER_URL": world.redis(1),
        "PROVIDER_URL": world.provider.url,
        "PYTHONUNBUFFERED": "1",
        "C_FORCE_ROOT": "1",
    }
    options = ["-A", "tasks", "worker", "--pool=threads", f"--concurrency={THREADS}", "--loglevel=WARNING"]
    log = world.directory / "sender.log"
    with helping([str(binaries / "python"), "sender.py"], environment, RIVAL, log) as sender:
        first = FAMILY
        sender.ask(prepare={each: (access_token(each, first), refresh_token(each, first)) for each in EVERYBODY})
        command = (str(binaries / "celery"), "--workdir", str(RIVAL))
        worker = Program("celery", options, environment, world.directory, command)
        try:
            yield Rival(world, name_of(url), worker, sender)
        finally:
            worker.kill()


@contextmanager
def running_floor(world: World) -> Iterator[Floor]:
    url = world.databases.create_database()
    environment = {
        **checkout_environment(),
        "DATABASE_URL": url.replace("+psycopg", ""),
        "PROVIDER_URL": world.provider.url,
    }
    log = world.directory / "floor.log"
    with helping(python("tests.bench.floor"), environment, world.directory, log) as helper:
        helper.ask(task="prepare", accounts=list(EVERYBODY))
        yield Floor(name_of(url), helper)


def rival_environment() -> Path:
    """Return the environment that has the rival; it is made on first use, from the package index."""
    wanted = (RIVAL / "requirements.txt").read_bytes()
    directory = (
        ENVIRONMENTS / f"{sys.version_info.major}{sys.version_info.minor}-{hashlib.sha256(wanted).hexdigest()[:16]}"
    )
    if not (directory / "made").exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        print("Installing Celery and Authlib into", os.path.relpath(directory), "…", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", directory], check=True)
        install: list[str | Path] = [directory / "bin" / "python", "-m", "pip", "install", "--quiet"]
        options: list[str | Path] = [
            "--disable-pip-version-check",
            "--require-hashes",
            "-r",
            RIVAL / "requirements.txt",
        ]
        done = subprocess.run([*install, *options], capture_output=True, text=True, check=False)
        if done.returncode:
            why = "the package index can't be reached" if any(s in done.stderr for s in unreachable) else done.stderr
            raise MeasurementFailed(f"the rival can't be installed: {why}")
        (directory / "made").touch()
    return directory
