"""The previous release, as pyproject.toml names it, for tests that this version works beside it."""

import subprocess
import tarfile
import tomllib
from functools import cache
from io import BytesIO
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]


@cache
def previous_release() -> tuple[str, str]:
    """Return its commit and its schema."""
    table = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["releases"]
    return table["previous-commit"], table["previous-schema"]


def unpack_previous_release(target: Path) -> None:
    """Write its code to `target`; skip the test if this clone does not reach so far back, as a shallow one."""
    commit, _ = previous_release()
    command = ["git", "archive", commit, "config", "models", "scheduler", "worker", "pyproject.toml"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"this clone has no commit {commit[:7]}, the previous release: git fetch --unshallow")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(target, filter="data")
