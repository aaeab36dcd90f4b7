"""The fleet that the examples run beside, and the ways to start them."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.examples.consumers import Language
from tests.processes import CHECKOUT, Fleet, running_fleet
from tests.servers import Postgres, Valkey, reserved_port, running_valkey, skip_unless_ci

NODE_EXAMPLE = CHECKOUT / "docs/examples/node"
NO_NETWORK = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "ERR_SOCKET_TIMEOUT")


@dataclass(frozen=True, slots=True)
class Ground:
    """A fleet whose users may return to `url`, where no server listens yet; its Valkey may be emptied and restarted."""

    fleet: Fleet
    valkey: Valkey
    url: str


@contextmanager
def running_ground(database_url: str, directory: Path) -> Iterator[Ground]:
    with reserved_port() as port, running_valkey() as valkey:
        url = f"http://127.0.0.1:{port}"
        with running_fleet(
            database_url, valkey.url, directory, RETURN_ORIGINS=url, CONNECT_CONFIRMATION="application"
        ) as fleet:
            yield Ground(fleet, valkey, url)


@pytest.fixture(scope="package")
def ground(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """The one on PostgreSQL, for all tests of the examples; `make run` has them on SQLite."""
    url = postgres.create_database()
    with running_ground(url, tmp_path_factory.mktemp("ground")) as found:
        yield found
    postgres.drop_database(url)


@pytest.fixture(params=["python", "node"])
def language(request: pytest.FixtureRequest) -> Language:
    """Each of the stand-alone consumers."""
    if request.param == "python":
        return Language.python()
    return Language.node(request.getfixturevalue("node"))


@pytest.fixture(scope="session")
def node() -> str:
    """The path of Node, once the example's packages are installed; they stay for the next time."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None or major_version(node) < 20:
        skip_unless_ci("no Node on this machine that is new enough: the consumer needs node 20 or newer, and npm")
    wanted, found = NODE_EXAMPLE / "package.json", NODE_EXAMPLE / "node_modules/.package-lock.json"
    if not found.exists() or found.stat().st_mtime < wanted.stat().st_mtime:
        install(npm)
    return node


def major_version(node: str) -> int:
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return int(said.removeprefix("v").split(".")[0])


def install(npm: str) -> None:
    done = subprocess.run(
        [npm, "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=NODE_EXAMPLE,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 and any(word in done.stderr for word in NO_NETWORK):
        skip_unless_ci("the npm registry can't be reached: the consumer in Node needs its packages")
    assert done.returncode == 0, done.stderr
