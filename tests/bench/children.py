"""Runs what is measured within one process: sending, publishing, claiming."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from statistics import median

from tests.bench.jobs import Bench
from tests.bench.ours import Ours
from tests.bench.processes import MeasurementFailed, python
from tests.databases import prepare_database


def measure_enqueue(bench: Bench, ours: Ours) -> None:
    for side, figures in run_inside(ours, "enqueue").items():
        for figure in figures:
            bench.note("enqueue.cpu", side, figure)


def measure_publish(bench: Bench, ours: Ours) -> None:
    for figure in run_inside(ours, "publish")["ours"]:
        bench.note("publish.rate", "ours", figure)


def measure_claims(bench: Bench, ours: Ours, sizes: Sequence[int]) -> None:
    """Claim among so many connections; each size is compared with the smallest, and the largest growth counts."""
    first, *others = (claim_among(bench, ours, count) for count in sizes)
    for row, side in (("claim.growth", "ours"), ("claim.refresh_growth", "refreshes")):
        worst = max((other[side] for other in others), key=median)
        for duration in worst:
            bench.note(row, "ours", duration / median(first[side]))


def claim_among(bench: Bench, ours: Ours, rows: int) -> Mapping[str, list[float]]:
    url = bench.world.databases.create_database()
    prepare_database(url)
    found = run_inside(ours, "claim", str(rows), DATABASE_URL=url)
    bench.world.databases.drop_database(url)
    for side, figures in found.items():
        for figure in figures:
            bench.note(f"claim.{side}.{rows}", "ours", figure)
    return found


def run_inside(ours: Ours, *arguments: str, **settings: str) -> dict[str, list[float]]:
    environment = {**ours.environment, "REDIS_URL": ours.world.redis(2), **settings}
    command = [*python("tests.bench.inside"), *arguments]
    done = subprocess.run(
        command, cwd=ours.world.directory, env=environment, capture_output=True, text=True, check=False
    )
    figures = done.stdout.rpartition("FIGURES ")[2]
    if done.returncode or not figures:
        raise MeasurementFailed(done.stderr[-2_000:] or done.stdout[-2_000:])
    found: dict[str, list[float]] = json.loads(figures)
    return found
