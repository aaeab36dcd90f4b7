"""`make example`: the application beside a `breezesync run`, and what it says where there is none."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.browsing import answer_page
from tests.examples.consumers import EXAMPLES
from tests.examples.test_application import answers
from tests.processes import CHECKOUT, Program
from tests.servers import plain_environment, reserved_port, wait_until

START = str(EXAMPLES / "start.py")
PATIENCE = 40


@dataclass(frozen=True, slots=True)
class Beside:
    """A directory in which a `breezesync run` runs, and where the example is to be reached."""

    directory: Path
    state: Path
    url: str
    environment: Mapping[str, str]


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    directory: Path = tmp_path_factory.mktemp("beside")
    state = directory / "state.json"
    with reserved_port() as web, reserved_port() as provider, reserved_port() as own, reserved_port() as operator:
        url = f"http://127.0.0.1:{own}"
        environment = plain(directory) | {
            "APP_PORT": str(own),
            "RETURN_ORIGINS": url,
            "OPERATOR_ADDRESS": f"127.0.0.1:{operator}",
        }
        ports = ("--port", str(web), "--sandbox-port", str(provider), "--state", str(state))
        program = Program("run", ("worker", "run", *ports), environment, directory)
        try:
            wait_until(state.exists, "breezesync runs", PATIENCE)
            yield Beside(directory, state, url, environment)
            program.stop()
        finally:
            program.kill()


def plain(directory: Path) -> dict[str, str]:
    return {**plain_environment(), "PYTHONPATH": str(CHECKOUT), "HOME": str(directory)}


def start(environment: Mapping[str, str], directory: Path) -> subprocess.CompletedProcess[str]:
    """What comes of it where it gives up at once."""
    return subprocess.run(
        [sys.executable, START], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )


def test_without_a_running_breezesync_it_says_what_to_do(tmp_path: Path) -> None:
    done = start(plain(tmp_path), tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "make run" in done.stderr


def test_beside_a_running_breezesync_it_leads_a_user_to_the_provider(beside: Beside) -> None:
    url = beside.url
    example = Program("example", (START,), beside.environment, beside.directory, (sys.executable,))
    try:
        wait_until(lambda: answers(url), "the application answers", PATIENCE)
        link = httpx.get(f"{url}/connect", trust_env=False).headers["location"]
        with httpx.Client(trust_env=False) as browser:
            asked = answer_page(browser, browser.get(link))
    finally:
        example.stop()
    assert (asked.status_code, urlsplit(asked.headers["location"]).path) == (303, "/oauth/authorize")
    assert example.log.read_text().startswith(f"The example application is on {url}.")


def test_where_users_may_not_return_to_it_says_so(beside: Beside) -> None:
    with reserved_port() as port:
        refused = start({**beside.environment, "APP_PORT": str(port)}, beside.directory)
    assert refused.returncode == 1
    assert "RETURN_ORIGINS" in refused.stderr


def test_an_applications_own_test_passes_against_the_sandbox(beside: Beside) -> None:
    example = str(EXAMPLES / "python/test_with_sandbox.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", example]
    asked = {**beside.environment, "BREEZESYNC_STATE": str(beside.state)}
    done = subprocess.run(command, cwd=beside.directory, env=asked, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1][:8]) == (0, "2 passed"), done.stdout + done.stderr
