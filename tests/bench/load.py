"""Runs planned jobs through a fleet, and reads what each part of it used and how late the jobs were done."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from typing import Any

import redis

from tests.bench.fill import Arrival, make_due
from tests.bench.meters import TICKS, cpu_seconds, family_of
from tests.bench.ours import WORKER, Ours
from tests.bench.planning import KINDS, Cost
from tests.processes import Program

REFRESHED = "SELECT max(c.issued_at) FROM credential c WHERE c.connection_id = p.connection_id"
SYNCED = "SELECT max(r.finished_at) FROM sync_run r WHERE r.connection_id = p.connection_id"
DONE = f"""
    SELECT p.kind, p.at, extract(epoch FROM p.due_at)::float8,
      extract(epoch FROM CASE WHEN p.kind = 'refresh' THEN ({REFRESHED}) ELSE ({SYNCED}) END)::float8
    FROM planned p ORDER BY p.at
"""
WAITING = """
    SELECT (SELECT count(*) FROM connection WHERE refresh_due_at <= now())
      + (SELECT count(*) FROM connection WHERE sync_due_at <= now())
"""
SETTLING = 3.0
"""Seconds after the last step, so that what became due in its last moments is not counted as left over."""
PARTS = ("workers", "scheduler", "database", "redis", "provider")


@dataclass(frozen=True, slots=True)
class Used:
    """Totals: seconds, CPU seconds of each part, of the machine and of one worker process, commands, bytes."""

    at: float
    cpu: Mapping[str, float]
    commands: float
    wal: float
    stored: float

    def __sub__(self, before: "Used") -> "Used":
        cpu = {name: self.cpu[name] - before.cpu[name] for name in self.cpu}
        return Used(
            self.at - before.at,
            cpu,
            self.commands - before.commands,
            self.wal - before.wal,
            self.stored - before.stored,
        )

    def cores(self) -> dict[str, float]:
        """Return how many cores each part used."""
        return {name: used / self.at for name, used in self.cpu.items()}

    def cost(self, jobs: int) -> Cost:
        """Return what each of so many jobs cost."""
        ms = {name: 1_000 * used / jobs for name, used in self.cpu.items()}
        return Cost(
            ms["workers"],
            ms["database"],
            ms["redis"],
            ms["scheduler"],
            self.commands / jobs,
            self.wal / jobs,
            self.stored / jobs,
        )


@dataclass(frozen=True, slots=True)
class Job:
    """A planned job: when it was due, and when it was done; both in seconds of the epoch."""

    kind: str
    at: float
    due: float
    done: float | None

    def lateness(self, now: float) -> float:
        """Return for how long it was, or is, not done although it was due."""
        return (self.done if self.done is not None else now) - self.due


@dataclass
class LoadedFleet:
    """Workers and a scheduler at work; `template` is a connection that was read completely."""

    ours: Ours
    workers: list[Program]
    scheduler: Program
    template: str
    client: Any = field(init=False)

    def __post_init__(self) -> None:
        self.client = redis.Redis.from_url(self.ours.world.redis(0))

    def read(self) -> Used:
        world = self.ours.world
        cpu = {
            "workers": sum(cpu_seconds(pid) for worker in self.workers for pid in family_of(worker.pid)),
            "scheduler": cpu_seconds(self.scheduler.pid),
            "database": world.meters.database_cpu(),
            "redis": cpu_seconds(world.redis_pid),
            "provider": cpu_seconds(world.provider.pid),
            "machine": machine_seconds(),
        }
        at = time.monotonic()
        [(wal, stored)] = self.fetch_all(
            "SELECT (pg_current_wal_insert_lsn() - '0/0')::float8, pg_database_size(current_database())::float8"
        )
        return Used(at, cpu, self.client.info("stats")["total_commands_processed"], wal, stored)

    def fetch_all(self, query: str) -> list[Any]:
        return self.ours.fetch_all(query)

    def run_all(self, arrivals: Sequence[Arrival], seconds: float) -> tuple[list[Job], Used]:
        """Make all due at once, and return the jobs and what was used until they were done, or the time was over."""
        make_due(self.ours.database_url, arrivals, time.time(), self.template)
        before, until = self.read(), time.monotonic() + seconds
        while time.monotonic() < until and self.waiting() > 0:
            time.sleep(0.2)
        jobs = self.jobs()
        while any(job.done is None for job in jobs) and time.monotonic() < until:
            time.sleep(0.2)
            jobs = self.jobs()
        return jobs, self.read() - before

    def tail(self) -> str:
        """Return the last lines of what the processes logged."""
        return "\n".join(each.tail(5) for each in (*self.workers, self.scheduler))

    def waiting(self) -> int:
        return self.ours.fetch(WAITING)

    def jobs(self) -> list[Job]:
        """Return the planned jobs; what was done before it was due was done for another reason."""
        return [
            Job(kind, at, due, done if done is not None and done >= due - 0.001 else None)
            for kind, at, due, done in self.fetch_all(DONE)
        ]

    def run_steps(
        self, arrivals: Sequence[Arrival], lengths: Sequence[float], note: Callable[[str], None] = lambda _: None
    ) -> tuple[list[Job], list[Used], float]:
        """Let the arrivals become due step by step; return the jobs, what each step used, and when the last ended."""
        start = time.time() + 2 + len(arrivals) / 4_000
        make_due(self.ours.database_url, arrivals, start, self.template)
        sleep_until(start)
        steps, end = [], start
        for number, seconds in enumerate(lengths):
            before, end = self.read(), end + seconds
            while (left := end - time.time()) > 0:
                time.sleep(min(left, 10))
                note(f"step {number + 1}, {max(left, 0):.0f} s left, {self.waiting()} due")
            steps.append(self.read() - before)
        sleep_until(end + SETTLING)
        return self.jobs(), steps, time.time()


def sleep_until(moment: float) -> None:
    time.sleep(max(moment - time.time(), 0))


def machine_seconds() -> float:
    """Return the CPU seconds of everything on this machine."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS


def start_fleet(ours: Ours, workers: int, template: str) -> LoadedFleet:
    """Start the other workers, and a scheduler; they end with `ours`."""
    others = [ours.start(f"worker-{number}", *WORKER) for number in range(2, workers + 1)]
    return LoadedFleet(ours, [ours.worker, *others], ours.start("scheduler", "scheduler"), template)


def rate_of(jobs: Sequence[Job]) -> float:
    """Return how many were done in a second, from the first to the last."""
    done = [job.done for job in jobs if job.done is not None]
    return len(done) / max(max(done) - min(done), 0.001)


def summarise(jobs: Sequence[Job], now: float) -> dict[str, Any]:
    """Return how late jobs were done, in seconds; what is not done is as late as it is by now."""
    late = [job.lateness(now) for job in jobs]
    if not late:
        return {"jobs": 0, "undone": 0, "p50": None, "p95": None, "max": None}
    cuts = quantiles(late, n=20, method="inclusive") if len(late) > 1 else late * 19
    undone = sum(job.done is None for job in jobs)
    return {"jobs": len(late), "undone": undone, "p50": cuts[9], "p95": cuts[18], "max": max(late)}


def describe_step(jobs: Sequence[Job], used: Used, now: float, workers: int, cores: int) -> dict[str, Any]:
    """Return a step as JSON takes it: lateness by kind, cores used by each part, and what was full."""
    by_kind = {kind: summarise([job for job in jobs if job.kind == kind], now) for kind in KINDS}
    usage = used.cores()
    limits = {"workers": workers, "scheduler": 1, "database": cores, "redis": 1, "provider": 1}
    full = [name for name, limit in limits.items() if usage[name] > 0.9 * min(limit, cores)]
    others = usage["machine"] - sum(usage[name] for name in PARTS)
    if usage["machine"] > 0.9 * cores:
        by = usage | {"machine": 0.0, "other programs": others}
        full.append(f"the machine's {cores} cores, most of them by {max(by, key=lambda name: by[name])}")
    return {
        "due_per_second": len(jobs) / used.at,
        "late": by_kind | {"all": summarise(jobs, now)},
        "cores": usage,
        "others": others,
        "full": full,
        "commands_per_second": used.commands / used.at,
        "wal_per_second": used.wal / used.at,
    }


def report(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)


def summarise_waits(waits: Sequence[float]) -> dict[str, Any]:
    """Return the same of what a model says."""
    return summarise([Job("", 0.0, 0.0, wait) for wait in waits], 0.0)
