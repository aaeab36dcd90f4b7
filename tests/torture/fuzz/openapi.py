"""Schemathesis asks the web process for what docs/openapi.yaml says, and for what it forbids."""

import re
import subprocess
import sys
from pathlib import Path
from time import monotonic

import yaml

from tests.browsing import serving
from tests.torture.fuzz.doors import opened, unlimited
from tests.torture.fuzz.report import Figures, counting
from worker.web.app import build_app

document = Path(__file__).parents[3] / "docs" / "openapi.yaml"
checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
allowed_beside = "405"
"""What any path answers to another method."""


def try_openapi(seed: int, count: int) -> Figures:
    """Have the document's operations asked `count` times in all, or a few times more."""
    program = Path(sys.executable).with_name("schemathesis")
    with (
        counting("OpenAPI") as (figures, log),
        opened() as place,
        serving(build_app(place.house.callback, unlimited)) as url,
    ):
        if not program.exists():
            figures.note("schemathesis is not installed", "make fuzz does that")
            return figures
        before = place.contents()
        started = monotonic()
        options = ("--url", url, "--seed", str(seed), "--checks", checks, "--no-color", "--generation-database", "none")
        size = (
            "--max-examples",
            str(max(-(-count // count_operations()), 10)),
            "--phases",
            "examples,coverage,fuzzing",
        )
        done = subprocess.run(
            [str(program), "run", str(document), *options, *size], capture_output=True, text=True, check=False
        )
        found = re.search(r"([\d,]+) generated", done.stdout)
        figures.tried = int(found[1].replace(",", "")) if found else 0
        figures.longest = (monotonic() - started) / max(figures.tried, 1)
        if done.returncode:
            figures.server_errors += 1
            figures.note("schemathesis", (done.stdout + done.stderr)[-900:])
        figures.compare(before, place.contents())
        figures.check_leaks(place.secrets, log.getvalue() + done.stdout)
    return figures


def count_operations() -> int:
    paths: dict[str, dict[str, object]] = yaml.safe_load(document.read_text())["paths"]
    return sum(len(operations) for operations in paths.values())
