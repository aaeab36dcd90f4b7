"""`make example`: the application beside a `breezesync run`, and what it says where there is none."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.examples.consumers import EXAMPLES
from tests.examples.test_application import answers
from tests.processes import CHECKOUT, Program
from tests.servers import plain_environment, reserved_port, wait_until

START = str(EXAMPLES / "start.py")
PATIENCE = 40


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**plain_environment(), "PYTHONPATH": str(CHECKOUT), "HOME": str(tmp_path)}


def start(environment: Mapping[str, str], directory: Path) -> subprocess.CompletedProcess[str]:
    """What comes of it where it gives up at once."""
    return subprocess.run(
        [sys.executable, START], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )


def test_without_a_running_breezesync_it_says_what_to_do(environment: dict[str, str], tmp_path: Path) -> None:
    done = start(environment, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip() == (
        "breezesync does not run here: `make run` in another terminal, and this again once it says so."
    )


def test_beside_a_running_breezesync_it_leads_a_user_to_the_provider(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with reserved_port() as port:
        url = f"http://127.0.0.1:{port}"
        chosen = environment | {"APP_PORT": str(port), "RETURN_ORIGINS": url}
        with running(chosen, tmp_path):
            example = Program("example", (START,), chosen, tmp_path, (sys.executable,))
            try:
                wait_until(lambda: answers(url), "the application answers", PATIENCE)
                link = httpx.get(f"{url}/connect", trust_env=False).headers["location"]
                asked = httpx.get(link, trust_env=False)
            finally:
                example.stop()
    assert (asked.status_code, urlsplit(asked.headers["location"]).path) == (302, "/oauth/authorize")
    assert example.log.read_text().startswith(f"The example application is on {url}.")


def test_the_sandbox_lets_users_return_to_the_example_and_nowhere_else(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with reserved_port() as port, running(environment, tmp_path) as state:
        refused = start(environment | {"APP_PORT": str(port)}, tmp_path)
    assert refused.returncode == 1
    assert "put it into RETURN_ORIGINS" in refused.stderr
    assert state["environment"]["RETURN_ORIGINS"] == "http://127.0.0.1:8701,http://localhost:8701"


@contextmanager
def running(environment: Mapping[str, str], directory: Path) -> Iterator[dict[str, Any]]:
    """A `breezesync run` that nobody has set up: what it says of itself."""
    told = directory / "state.json"
    with reserved_port() as web, reserved_port() as provider:
        ports = ("--port", str(web), "--sandbox-port", str(provider), "--state", str(told))
        program = Program("run", ("worker", "run", *ports), environment, directory)
        try:
            wait_until(told.exists, "breezesync runs", PATIENCE)
            yield json.loads(told.read_text())
            program.stop()
        finally:
            program.kill()
