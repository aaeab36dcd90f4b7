"""A breezesync that was installed as a package is in no one's way, and no one is in its."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.processes import CHECKOUT
from tests.servers import plain_environment
from worker.cli.setup import suggest_commands

WHEEL = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
ROOMS = ("worker", "scheduler", "models", "config", "sandbox")


def install(site: Path) -> None:
    """Lay the files out as the wheel has them."""
    assert set(WHEEL["only-include"]) == set(WHEEL["sources"])
    for source, place in sorted(WHEEL["sources"].items(), key=lambda pair: len(pair[1])):
        target = site / place
        target.mkdir(parents=True, exist_ok=True)
        for path in (CHECKOUT / source).iterdir():
            if path.name != "__pycache__":
                (target / path.name).symlink_to(path)


def test_beside_a_project_of_the_same_names_both_find_their_own(tmp_path: Path) -> None:
    site, project = tmp_path / "site", tmp_path / "project"
    install(site)
    for name in ROOMS:
        (project / name).mkdir(parents=True)
        (project / name / "__init__.py").write_text("own = True")
    environment = {**plain_environment(), "PYTHONPATH": str(site)}
    imports = "; ".join(f"import {name}; assert {name}.own" for name in ROOMS)
    command = [sys.executable, "-c", f"{imports}; import breezesync; print(dir(breezesync))"]
    own = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=True)
    assert "worker" not in own.stdout
    command = [sys.executable, "-m", "breezesync", "keys", "new"]
    environment |= {"PYTHONSAFEPATH": "", "HOME": os.environ.get("HOME", "/")}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ":" in done.stdout


def test_the_example_is_suggested_in_the_checkout_only(tmp_path: Path) -> None:
    start = tmp_path / "docs" / "examples" / "start.py"
    start.parent.mkdir(parents=True)
    start.touch()
    suggested = [[words for words, _ in suggest_commands("breezesync", each)] for each in (CHECKOUT, tmp_path)]
    assert ["make example" in commands for commands in suggested] == [True, False]
    assert "breezesync status" in suggested[1]
