"""Measure breezesync beside Celery with Authlib and beside a floor: `python -m tests.bench --json FILE`.

What is measured, and what each row means, is in docs/performance.md. A goal that is not met is printed as such; only a
measurement that failed ends with 1.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.bench.goals import judge
from tests.bench.jobs import Bench
from tests.bench.ours import running_ours
from tests.bench.processes import MeasurementFailed
from tests.bench.report import document_of, table_of
from tests.bench.sides import running_floor, running_rival
from tests.bench.world import running_world
from tests.processes import CHECKOUT


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument("--rounds", type=int, default=5, help="how often each batch of jobs is run (5)")
    parser.add_argument("--scale", action="store_true", help="claim from 1,000,000 rows too, which takes minutes")
    chosen = parser.parse_args()
    samples: dict[str, dict[str, list[float]]] = {}
    failures: dict[str, str] = {}
    measure(chosen, samples, failures)
    results = judge(samples)
    Console(width=None if sys.stdout.isatty() else 180).print(table_of(results))
    for part, why in failures.items():
        print(f"{part} was not measured: {why}", file=sys.stderr)
    if chosen.json is not None:
        document = document_of(samples, failures, describe_run())
        chosen.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 1 if failures else 0


def measure(chosen: argparse.Namespace, samples: dict[str, dict[str, list[float]]], failures: dict[str, str]) -> None:
    """Measure part by part; one that fails does not keep the others from being measured."""

    def attempt(part: str, what: Callable[[], None]) -> None:
        print(f"{datetime.now(UTC):%H:%M:%S} {part}", file=sys.stderr, flush=True)
        try:
            what()
        except (MeasurementFailed, TimeoutError, OSError) as error:
            failures[part] = str(error)

    with (
        running_world() as world,
        running_rival(world) as rival,
        running_floor(world) as floor,
        running_ours(world) as ours,
    ):
        bench = Bench(world, (ours, rival, floor), samples, {})
        attempt("jobs", lambda: measure_jobs(bench, chosen.rounds))


def measure_jobs(bench: Bench, rounds: int) -> None:
    bench.warm_up()
    bench.measure_idle(5)
    for number in range(rounds):
        bench.measure_round(number)
    bench.note_redis()


def describe_run() -> dict[str, Any]:
    """Return when, by what, of which code and on what machine."""
    revision = subprocess.run(
        ["git", "-C", str(CHECKOUT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "command": "python -m tests.bench " + " ".join(sys.argv[1:]),
        "commit": revision.stdout.strip() or "unknown",
        "machine": f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, load {load}",
    }


if __name__ == "__main__":
    sys.exit(main())
