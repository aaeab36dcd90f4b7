"""Measure breezesync beside Celery with Authlib and beside a floor: `python -m tests.bench --json FILE`.

What is measured, and what each row means, is in docs/performance.md. A goal that is not met is printed as such; only a
measurement that failed ends with 1.
"""

import argparse
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from redis.exceptions import RedisError
from rich.console import Console

from tests.bench.callback import measure_callbacks
from tests.bench.children import measure_claims, measure_enqueue, measure_publish
from tests.bench.fleet import measure_fleet
from tests.bench.goals import judge
from tests.bench.jobs import Bench
from tests.bench.ours import Ours, running_ours
from tests.bench.processes import MeasurementFailed, describe_run
from tests.bench.report import document_of, table_of
from tests.bench.sides import running_floor, running_rival
from tests.bench.world import running_world

PARTS = ("jobs", "callback", "fleet", "enqueue", "publish", "claim")


SIZES = (100_000, 1_000_000)
LARGE_SIZES = (100_000, 1_000_000, 10_000_000)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument("--rounds", type=int, default=5, help="how often each batch of jobs is run (5)")
    parser.add_argument("--scale", action="store_true", help="claim from up to 10,000,000 rows: minutes, 20 GB")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    chosen = parser.parse_args()
    samples: dict[str, dict[str, list[float]]] = {}
    failures: dict[str, str] = {}
    measure(chosen, samples, failures)
    results = judge(samples)
    Console(width=None if sys.stdout.isatty() else 180).print(table_of(results))
    for part, why in failures.items():
        print(f"{part} was not measured: {why}", file=sys.stderr)
    if chosen.json is not None:
        document = document_of(samples, failures, describe_run("tests.bench"))
        chosen.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 1 if failures else 0


def measure(chosen: argparse.Namespace, samples: dict[str, dict[str, list[float]]], failures: dict[str, str]) -> None:
    """Measure part by part; one that fails does not keep the others from being measured."""

    def attempt(part: str, what: Callable[[], None]) -> None:
        print(f"{datetime.now(UTC):%H:%M:%S} {part}", file=sys.stderr, flush=True)
        try:
            what()
        except (MeasurementFailed, OSError, psycopg.Error, RedisError) as error:
            failures[part] = str(error)

    with running_world() as world, running_ours(world) as ours:
        bench, rounds = Bench(world, (), samples, {}), chosen.rounds
        parts: dict[str, Callable[[], None]] = {
            "jobs": lambda: measure_jobs(bench, ours, rounds),
            "callback": lambda: measure_callbacks(bench, ours, rounds),
            "fleet": lambda: measure_fleet(bench, ours),
            "enqueue": lambda: measure_enqueue(bench, ours),
            "publish": lambda: measure_publish(bench, ours),
            "claim": lambda: measure_claims(bench, ours, LARGE_SIZES if chosen.scale else SIZES),
        }
        for part in chosen.only or parts:
            attempt(part, parts[part])


def measure_jobs(bench: Bench, ours: Ours, rounds: int) -> None:
    """Run the batches of all three sides, in turns."""
    with running_rival(bench.world) as rival, running_floor(bench.world) as floor:
        bench.sides = (ours, rival, floor)
        measure_rounds(bench, rounds)


def measure_rounds(bench: Bench, rounds: int) -> None:
    bench.warm_up()
    bench.measure_idle(5)
    for number in range(rounds):
        bench.measure_round(number)
    bench.note_redis()


if __name__ == "__main__":
    sys.exit(main())
