"""A fleet with many connections on this machine: `python -m tests.bench.scale --connections 200000 --minutes 10`.

Fills PostgreSQL with connections whose sealed tokens open, measures what a job of each kind costs while nothing else is
to do, and lets jobs become due at random, at rising shares of what the machine carried. Prints how late they were done,
what each part used, and what a model of the fleet says (`tests/bench/simulation.py`).
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.messaging import messages
from tests.bench.accounts import FLEET, SMALL, connection_id
from tests.bench.fill import Arrival, fill_fleet, plan_arrivals
from tests.bench.load import SETTLING, LoadedFleet, describe_step, rate_of, report, start_fleet, summarise_waits
from tests.bench.ours import running_ours
from tests.bench.planning import KINDS, age_at_refresh, length_text, load_of, read_length
from tests.bench.processes import MeasurementFailed, describe_run
from tests.bench.sides import THREADS
from tests.bench.simulation import Machine, simulate
from tests.bench.world import running_world

SERVER = {"autovacuum": "on", "checkpoint_timeout": "5min", "max_wal_size": "4GB", "shared_buffers": "1GB"}
"""What the database does beside its work it does here too."""
SHARES = (0.25, 0.5, 0.75, 1.0, 1.25)
LATER = {"SYNC_INTERVAL": "1d"}
"""What was done is not due again while this runs."""


def main() -> int:
    chosen = parse(sys.argv[1:])
    result = measure(chosen) | describe_run("tests.bench.scale")
    print_result(result)
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scale", description=__doc__)
    parser.add_argument("--connections", type=lambda text: int(float(text)), default=200_000)
    parser.add_argument("--minutes", type=float, default=10, help="of all steps together (10)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (one for each core)")
    parser.add_argument("--jobs", type=int, default=1_000, help="of each kind, to measure what one costs (1,000)")
    parser.add_argument("--token-life", type=read_length, default="1h", help="with the interval, the mix of jobs (1h)")
    parser.add_argument("--sync-interval", type=read_length, default="15m", help="(15m)")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, help="of what the machine carries")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args(arguments)


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    accounts = FLEET[: chosen.connections]
    with running_fleet(chosen) as (fleet, size):
        costs, used = measure_costs(fleet, accounts, chosen.jobs)
        mix = load_of(chosen.connections, chosen.token_life, chosen.sync_interval).mix()
        carried = 1 / sum(share / costs[kind]["rate"] for kind, share in mix.items())
        report(f"carries {carried:.1f} jobs a second of this mix")
        seconds = chosen.minutes * 60 / len(chosen.shares)
        steps = [(seconds, share * carried) for share in chosen.shares]
        arrivals = plan_arrivals(chosen.seed, steps, mix, accounts[used:])
        jobs, usage, end = fleet.run_steps(arrivals, [seconds] * len(steps), report)
        cores = os.cpu_count() or 1
        described = []
        for number, each in enumerate(usage):
            own = [job for job in jobs if number * seconds <= job.at < (number + 1) * seconds]
            step = describe_step(own, each, end, chosen.workers, cores)
            described.append({"share": chosen.shares[number], "seconds": seconds} | step)
    machine = model_of(chosen, costs, cores)
    add_model(described, machine, arrivals, seconds)
    for step in described:
        step["means"] = meaning(chosen.connections, mix, step["due_per_second"])
    return {
        "connections": chosen.connections,
        "bytes_per_connection": size,
        "workers": chosen.workers,
        "threads": int(THREADS),
        "cores": cores,
        "seed": chosen.seed,
        "mix": mix,
        "carried": carried,
        "costs": costs,
        "steps": described,
    }


@contextmanager
def running_fleet(chosen: argparse.Namespace) -> Iterator[tuple[LoadedFleet, float]]:
    """A fleet at rest, and how many bytes of the database a connection takes. All of it ends with the block."""
    template = connection_id(SMALL[0])
    with running_world(**SERVER) as world, running_ours(world, **LATER) as ours:
        report("reading the account that all are like")
        ours.prepare("sync", SMALL[:1])
        ours.enqueue(messages.read_connection(template))
        ours.wait_until_idle()
        ours.check("sync", SMALL[:1])
        report(f"writing {chosen.connections:,} connections, with two sealed tokens each")
        size = "SELECT pg_database_size(current_database())"
        before = ours.fetch(size)
        fill_fleet(ours.database_url, ours.environment["ENCRYPTION_KEYS"], chosen.connections, template)
        filled = (ours.fetch(size) - before) / chosen.connections
        yield start_fleet(ours, chosen.workers, template), filled


def measure_costs(fleet: LoadedFleet, accounts: Sequence[int], jobs: int) -> tuple[dict[str, dict[str, float]], int]:
    """Run jobs of one kind after the other, as fast as they go; the first of each kind only warm up.

    Return for each kind its cost and how many were done in a second, and how many connections were used.
    """
    costs, used = {}, 0
    for kind in KINDS:
        for count in (max(jobs // 10, 1), jobs):
            due = [Arrival(account, kind, 0.0) for account in accounts[used : used + count]]
            used += count
            done, usage = fleet.run_all(due, 300)
            if undone := sum(job.done is None for job in done):
                raise MeasurementFailed(f"{undone} of {len(done)} {kind} jobs were not done:\n{fleet.tail()}")
        provider = 1_000 * usage.cpu["provider"] / jobs
        costs[kind] = asdict(usage.cost(jobs)) | {"rate": rate_of(done), "provider": provider}
        report(f"{kind}: {costs[kind]['rate']:.1f} a second, {costs[kind]['worker']:.1f} ms CPU of the worker")
    return costs, used


def model_of(chosen: argparse.Namespace, costs: Mapping[str, Mapping[str, float]], cores: int) -> Machine:
    """Return the model of this machine: what was carried with nothing else to do says how long a job keeps a core."""
    service = {kind: cores / costs[kind]["rate"] for kind in KINDS}
    return Machine(cores, chosen.workers * int(THREADS), 1.0, service)


def add_model(steps: Sequence[dict[str, Any]], machine: Machine, arrivals: Sequence[Arrival], seconds: float) -> None:
    """Put beside each step what the model says of the same jobs."""
    jobs = sorted((each.at, each.kind) for each in arrivals)
    late = simulate(machine, jobs)
    end = seconds * len(steps) + SETTLING
    for number, step in enumerate(steps):
        own = [
            min(wait, end - at)
            for (at, _), wait in zip(jobs, late, strict=True)
            if number * seconds <= at < (number + 1) * seconds
        ]
        step["model"] = summarise_waits(own)


def meaning(connections: int, mix: Mapping[str, float], rate: float) -> dict[str, str]:
    """Return the life of tokens and the interval of syncs that give so many connections this rate of jobs."""
    if not rate:
        return {}
    syncs, refreshes = rate * (mix["pulse"] + mix["sync"]), rate * mix["refresh"]
    hour = read_length("1h")
    life = hour * (connections / refreshes / age_at_refresh(hour).total_seconds())
    return {"token_life": length_text(life), "sync_interval": length_text(read_length(f"{connections / syncs}s"))}


def print_result(result: Mapping[str, Any]) -> None:
    print(f"{result['connections']:,} connections, {result['workers']} workers, {result['carried']:.1f} jobs a second")
    for step in result["steps"]:
        late, model = step["late"]["all"], step["model"]
        parts = ", ".join(f"{name} {used:.2f}" for name, used in step["cores"].items())
        print(
            f"{step['share']:.0%}: {step['due_per_second']:.1f} a second, {late['jobs']} jobs, {late['undone']} open; "
            f"late p50 {seconds_text(late['p50'])}, p95 {seconds_text(late['p95'])}, most {seconds_text(late['max'])}; "
            f"by the model {seconds_text(model['p50'])}, {seconds_text(model['p95'])}; "
            f"cores: {parts}; full: {', '.join(step['full']) or '-'}"
        )


def seconds_text(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


if __name__ == "__main__":
    sys.exit(main())
