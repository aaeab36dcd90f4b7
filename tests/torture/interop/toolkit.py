"""A django-oauth-toolkit that runs: its environment is made on first use and kept under `var/interop`."""

import fcntl
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from tests.servers import skip_unless_ci

here = Path(__file__).parent
environments = here.parents[2] / "var" / "interop"
unreachable = ("NewConnectionError", "ConnectionError", "Max retries", "timed out", "Name or service not known")


@dataclass
class Toolkit:
    """The server, and the browsers of its users."""

    port: int
    version: str
    client_id: str = "toolkit-client"
    client_secret: str = "toolkit-secret"
    redirect_uri: str = "http://127.0.0.1:8700/auth/toolkit/callback"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def authorize(self, url: str, number: int) -> str:
        """The user logs in and agrees: where the browser is sent."""
        with httpx.Client(base_url=self.url) as browser:
            browser.get(f"/_enter/{number}").raise_for_status()
            return str(browser.get(url).headers["location"])

    def advance(self, seconds: int) -> None:
        httpx.get(f"{self.url}/_advance/{seconds}").raise_for_status()

    def families(self) -> dict[str, int]:
        """How many refresh tokens of each family are alive."""
        counted: dict[str, int] = httpx.get(f"{self.url}/_families", timeout=60).json()
        return counted

    def ledger(self) -> dict[str, Any]:
        """Every request to the API, every access token, and how many pairs each account was given."""
        kept: dict[str, Any] = httpx.get(f"{self.url}/_ledger", timeout=60).json()
        return kept


def environment() -> Path:
    """The Python that has django-oauth-toolkit; skips the test where the package index can't be reached."""
    wanted = (here / "requirements.txt").read_bytes()
    directory = environments / hashlib.sha256(wanted + sys.version.encode()).hexdigest()[:16]
    directory.parent.mkdir(parents=True, exist_ok=True)
    python, made = directory / "bin" / "python", directory / "made"
    with (directory.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", directory], check=True)
            install: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            done = subprocess.run(
                [*install, "-r", here / "requirements.txt"], capture_output=True, text=True, check=False
            )
            if done.returncode and any(sign in done.stderr for sign in unreachable):
                skip_unless_ci("the package index can't be reached, and django-oauth-toolkit is not here yet")
            assert done.returncode == 0, done.stderr
            made.touch()
    return python


@contextmanager
def running_toolkit(
    grace_seconds: int, users: int, access_seconds: int = 30 * 86_400, api_requests_per_minute: int = 1_000_000
) -> Iterator[Toolkit]:
    """With rotation and reuse detection; with a grace of 0 none."""
    python = environment()
    with TemporaryDirectory() as directory:
        numbers = map(str, (grace_seconds, users, access_seconds, api_requests_per_minute))
        command: list[str | Path] = [python, here / "server.py", directory, *numbers]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            started = json.loads(process.stdout.readline())
            yield Toolkit(started["port"], started["version"])
        finally:
            process.stdin.close()
            process.wait(30)
            process.stdout.close()
