"""The number of this version, which is written in `pyproject.toml` only."""

import tomllib
from importlib.metadata import version
from pathlib import Path


def read_version() -> str:
    """Return the number of the checkout that this file is in, or else of the package that was installed."""
    try:
        project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    except OSError:
        return version("breezesync")
    return str(project["version"])
