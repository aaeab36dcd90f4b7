"""The processes that a run needs beside our own: the provider, and helpers that take a line of JSON at a time."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import httpx

from tests.processes import CHECKOUT
from tests.servers import plain_environment


class MeasurementFailed(Exception):
    """What was measured is not what was to be measured, for the reason that the text gives."""


class Helper:
    """A process that does what a line on its standard input asks for, and answers with a line."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.pid = process.pid
        self._in: IO[str] = process.stdin
        self._out: IO[str] = process.stdout

    def read(self) -> str:
        line = self._out.readline()
        if not line:
            raise MeasurementFailed("a process of the bench has ended; its log says why")
        return line.strip()

    def ask(self, **request: Any) -> None:
        """Return when it is done."""
        self._in.write(json.dumps(request) + "\n")
        self._in.flush()
        self.read()


@contextmanager
def helping(command: list[str], environment: Mapping[str, str], directory: Path, log: Path) -> Iterator[Helper]:
    """A helper that ends when the block does."""
    with (
        log.open("ab") as errors,
        subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield Helper(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def python(module: str) -> list[str]:
    return [sys.executable, "-m", module]


def checkout_environment() -> dict[str, str]:
    return {**plain_environment(), "PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1"}


class Provider:
    """The provider's process, and what it counted."""

    def __init__(self, port: int, pid: int) -> None:
        self.pid = pid
        self.url = f"http://127.0.0.1:{port}"
        self._client = httpx.Client(base_url=self.url, trust_env=False)

    def counts(self) -> dict[str, int]:
        """Return the requests so far: `token`, `api`, and `stale` refresh tokens presented again."""
        found: dict[str, int] = self._client.get("/counts").json()
        return {name: found.get(name, 0) for name in ("token", "api", "stale")}

    def count_requests(self) -> int:
        counts = self.counts()
        return counts["api"] + counts["token"]

    def revoke(self, account: int) -> None:
        self._client.get(f"/revoke/{account}")

    def refused_at(self, account: int) -> float:
        """Return when this account's token was first refused, in seconds of the machine's monotonic clock."""
        return float(self._client.get(f"/refused/{account}").json())


@contextmanager
def running_provider(directory: Path) -> Iterator[Provider]:
    log = directory / "provider.log"
    with helping(python("tests.bench.provider"), checkout_environment(), directory, log) as helper:
        yield Provider(int(helper.read()), helper.pid)


def describe_run(module: str) -> dict[str, Any]:
    """Return when, by what, of which code and on what machine."""
    revision = subprocess.run(
        ["git", "-C", str(CHECKOUT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "command": f"python -m {module} {' '.join(sys.argv[1:])}",
        "commit": revision.stdout.strip() or "unknown",
        "machine": f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, load {load}",
    }
