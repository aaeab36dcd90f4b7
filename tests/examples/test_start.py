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


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the breezesync of this module's tests runs."""
    return tmp_path_factory.mktemp("beside")


@pytest.fixture(scope="module")
def environment(beside: Path) -> dict[str, str]:
    return {**plain_environment(), "PYTHONPATH": str(CHECKOUT), "HOME": str(beside)}


@pytest.fixture(scope="module")
def state(environment: dict[str, str], beside: Path) -> Iterator[dict[str, Any]]:
    """What a `breezesync run` says of itself that nobody has set up."""
    with running(environment, beside) as told:
        yield told


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


def test_the_sandbox_lets_users_return_to_the_example_only(
    environment: dict[str, str], beside: Path, state: dict[str, Any]
) -> None:
    with reserved_port() as port:
        refused = start(environment | {"APP_PORT": str(port)}, beside)
    assert refused.returncode == 1
    assert "put it into RETURN_ORIGINS" in refused.stderr
    assert state["environment"]["RETURN_ORIGINS"] == "http://127.0.0.1:8701,http://localhost:8701"


@pytest.mark.usefixtures("state")
def test_an_applications_own_test_passes_against_the_sandbox(environment: dict[str, str], beside: Path) -> None:
    example = str(EXAMPLES / "python/test_with_sandbox.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(beside), example]
    asked = environment | {"BREEZESYNC_STATE": str(beside / "state.json")}
    done = subprocess.run(command, cwd=beside, env=asked, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1][:8]) == (0, "2 passed"), done.stdout + done.stderr


@contextmanager
def running(environment: Mapping[str, str], directory: Path) -> Iterator[dict[str, Any]]:
    """A `breezesync run`: what it says of itself."""
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
