"""One chaos run: faults at random moments until there are enough, then rest, then the verdict."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis
from sqlalchemy.exc import SQLAlchemyError

from tests.servers import children_of
from tests.torture.chaos.collect import collect, read_entries
from tests.torture.chaos.points import kill_points, raise_points, raised
from tests.torture.chaos.setup import ChaosFleet, Child, Database, running_chaos_fleet, write_lock
from tests.torture.chaos.verdict import Verdict, draw, judge

patience = 90.0
"""Seconds that a user watches the page that says "connecting" before starting again."""
most_armed = 6
"""With more points at once workers would die faster than they can start, and every run would show only that."""
longest_latency_ms = 2_500
"""The provider may work on after we hung up, but not beyond the time that a probe waits for."""

provider_faults: tuple[tuple[str, dict[str, Any]], ...] = (
    ("before: 429", {"moment": "before", "status": 429, "retry_after": 1}),
    ("before: 503", {"moment": "before", "status": 503}),
    ("before: 503 with Retry-After", {"moment": "before", "status": 503, "retry_after": 1}),
    ("before: 500", {"moment": "before", "status": 500}),
    ("before: reset", {"moment": "before", "kind": "drop"}),
    ("before: HTML", {"moment": "before", "kind": "html"}),
    ("before: redirect", {"moment": "before", "kind": "redirect"}),
    ("before: garbage", {"moment": "before", "kind": "garbage"}),
    ("before: late", {"moment": "before", "kind": "late"}),
    ("middle: 500", {"moment": "middle", "status": 500}),
    ("middle: reset", {"moment": "middle", "kind": "drop"}),
    ("middle: late", {"moment": "middle", "kind": "late"}),
    ("after: 500", {"moment": "after", "status": 500}),
    ("after: 503", {"moment": "after", "status": 503}),
    ("after: reset", {"moment": "after", "kind": "drop"}),
    ("after: cut", {"moment": "after", "kind": "cut"}),
    ("after: garbage", {"moment": "after", "kind": "garbage"}),
    ("after: late", {"moment": "after", "kind": "late"}),
)

outages: tuple[tuple[str, dict[str, Any]], ...] = (
    ("502", {"status": 502}),
    ("503", {"status": 503}),
    ("redirect", {"kind": "redirect"}),
    ("HTML 200", {"kind": "html"}),
    ("HTML 403", {"kind": "html", "status": 403}),
    ("reset", {"kind": "drop"}),
)
"""What every token request is answered during an outage of the endpoint."""


@dataclass
class Subject:
    """One user with one account: connected, or on the way to it, and then patient until that time."""

    user: str
    account: int
    consent: Future[str | None] | None = None
    next_at: float = 0.0
    patient_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """A connection as the database shows it while all goes on."""

    id: str
    status: str
    is_due: bool


@dataclass
class Run:
    """Everything random comes from `dice`, so that a seed brings the same order of faults; when each goes off is up to
    the machine."""

    fleet: ChaosFleet
    dice: random.Random
    wanted: int
    subjects: list[Subject]
    workers: int
    counts: Counter[str] = field(default_factory=Counter)
    delivered: list[tuple[str, str, int, str]] = field(default_factory=list)
    positions: dict[str, str] = field(default_factory=lambda: {"breezesync:events": "0", "breezesync:records": "0"})
    revocations: list[tuple[int, float]] = field(default_factory=list)
    killed: set[int] = field(default_factory=set)
    later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    stopped: dict[int, float] = field(default_factory=dict)
    injected: dict[int, tuple[str, float]] = field(default_factory=dict)
    outages: set[int] = field(default_factory=set)
    armed_at: dict[str, float] = field(default_factory=dict)
    connecting: set[str] = field(default_factory=set)
    outage: bool = False
    next_global: float = 0.0
    stopping: Callable[[], bool] = lambda: False
    say: Callable[[str], None] = lambda _: None
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(6))

    @property
    def count(self) -> int:
        return sum(self.counts.values())

    def play(self, seconds: float) -> None:
        """Inject faults until there are enough, the time is over, or the caller asks to stop."""
        started, look_at, say_at = time.monotonic(), 0.0, 30.0
        while self.count < self.wanted and time.monotonic() < started + seconds and not self.stopping():
            self.tick()
            if time.monotonic() - started >= say_at:
                self.say(f"{self.count} of {self.wanted} faults after {say_at:.0f} s")
                say_at += 30
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + 0.3
                self.count_provider_faults()
                self.keep_armed()
            if rows := self.read_rows():
                for subject in self.subjects:
                    self.drive(subject, rows.get(subject.user))
            if not self.outage and time.monotonic() > self.next_global:
                self.next_global = time.monotonic() + self.dice.uniform(1.2, 3.6)
                self.break_something()
            time.sleep(0.1)

    def tick(self) -> None:
        """Do what is due in any case: scheduled acts, fired points, processes that died, new events."""
        now = time.monotonic()
        ready = [(at, act) for at, act in self.later if at <= now]
        self.later = [(at, act) for at, act in self.later if at > now]
        for _, act in ready:
            act()
        for taken in self.fleet.points.read_fired():
            what = taken.order["do"]
            self.counts[f"{what} at {taken.point}"] += 1
            if what == "kill":
                self.killed.add(taken.pid)
            if what == "stop":
                self.stopped[taken.pid] = max(self.stopped.get(taken.pid, 0.0), now + taken.order["seconds"])
        self.wake()
        self.fleet.workers = [each for each in self.fleet.workers if each.runs]
        while len([each for each in self.fleet.workers if not each.stopping]) < self.workers:
            self.fleet.start_worker(threads=self.dice.choice((2, 3, 4)))
        self.fleet.schedulers = [each for each in self.fleet.schedulers if each.runs]
        while len(self.fleet.schedulers) < 2:
            self.fleet.start_scheduler()
        self.listen()

    def wake(self) -> None:
        """Continue the processes whose stop is over. Called repeatedly: a process may stop long after it took the
        order."""
        for pid in [pid for pid, until in self.stopped.items() if until <= time.monotonic()]:
            if not Path(f"/proc/{pid}").exists():
                del self.stopped[pid]
            elif is_stopped(pid):
                send(pid, signal.SIGCONT)

    def schedule(self, seconds: float, act: Callable[[], None]) -> None:
        self.later.append((time.monotonic() + seconds, act))

    def listen(self) -> None:
        with suppress(redis.RedisError), self.fleet.redis() as client:
            for key, entries in client.xread(self.positions, count=5_000):
                self.delivered += read_entries(key, entries)
                self.positions[key] = entries[-1][0]

    def read_rows(self) -> dict[str, Row]:
        """Return every connection by its user, or nothing if the database is away; note who waits to be connected."""
        query = "SELECT id, user_id, status, refresh_due_at FROM connection"
        waiting = """SELECT DISTINCT user_id FROM "authorization" WHERE step IN ('received', 'granted')"""
        try:
            now = datetime.now(UTC)
            self.connecting = {row.user_id for row in self.fleet.rows(waiting)}
            return {
                row.user_id: Row(row.id, row.status, is_past(row.refresh_due_at, now)) for row in self.fleet.rows(query)
            } or {"": Row("", "", False)}
        except SQLAlchemyError:
            return {}

    def drive(self, subject: Subject, row: Row | None) -> None:
        """Do the next thing that happens to this user."""
        now = time.monotonic()
        if now < subject.next_at:
            return
        if subject.consent is not None:
            if not subject.consent.done():
                return
            given = subject.consent.result()
            subject.consent, subject.next_at = None, now + 0.5
            subject.patient_until = now + (patience if given else 0)
            return
        subject.next_at = now + self.dice.uniform(0.1, 0.8)
        if row is None or row.status != "active":
            if subject.user in self.connecting and now < subject.patient_until:
                return
            self.authorize(subject)
        elif row.is_due:
            if self.dice.random() < 0.02:
                self.race(subject, row)
        else:
            self.refresh(subject, row)

    def authorize(self, subject: Subject) -> None:
        if self.dice.random() < 0.5:
            self.inject(subject, "exchange", "authorization_code")
        subject.consent = self.pool.submit(self.fleet.consent, subject.user, subject.account)

    def refresh(self, subject: Subject, row: Row) -> None:
        """Make a refresh due, with or without a fault at the provider, requested by one message or by many."""
        if self.dice.random() < 0.95:
            self.inject(subject, "refresh", "refresh_token")
        try:
            self.fleet.change(
                "UPDATE connection SET refresh_due_at = :now, refresh_claimed_until = NULL "
                "WHERE id = :id AND status = 'active'",
                now=datetime.now(UTC)
                if self.fleet.database == "postgresql"
                else datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
                id=row.id,
            )
        except SQLAlchemyError:
            return
        times = self.dice.choices((0, 1, 2, 50), (2, 5, 2, 0.4))[0]
        if times and self.fleet.ask("refresh_token", "refresh", times, connection_id=row.id) and times == 50:
            self.counts["50 refreshers at once"] += 1
        if self.dice.random() < 0.12:
            self.race(subject, row)

    def race(self, subject: Subject, row: Row) -> None:
        """Do something that races the refresh."""
        match self.dice.choices(("revoke", "authorize", "disconnect", "sync"), (3, 3, 2, 3))[0]:
            case "revoke":
                self.fleet.control.revoke_user(subject.account)
                self.revocations.append((subject.account, time.time()))
                self.counts["user: revoked at the provider"] += 1
                self.fleet.ask("sync_connection", "sync", connection_id=row.id)
            case "authorize":
                self.counts["user: authorized again"] += 1
                self.authorize(subject)
            case "disconnect":
                if self.fleet.ask("disconnect", "control", connection_id=row.id):
                    self.counts["user: disconnected"] += 1
            case _:
                self.fleet.ask("sync_connection", "sync", connection_id=row.id)

    def inject(self, subject: Subject, what: str, grant_type: str) -> None:
        label, fault = self.dice.choice(provider_faults)
        if fault.get("kind") == "late":
            fault = {**fault, "delay_ms": int(self.dice.triangular(1, longest_latency_ms, 600))}
        match = {"user_id": subject.account, "grant_type": grant_type}
        number = self.fleet.control.inject("token", match=match, **fault)
        self.injected[number] = (f"{what}, {label}", time.monotonic())

    def count_provider_faults(self) -> None:
        """Count the faults that hit a request; remove those that hit none."""
        for fault in self.fleet.control.faults():
            if fault["id"] in self.outages:
                continue
            label, since = self.injected.get(fault["id"], ("", 0.0))
            if fault["hits"]:
                self.counts[label] += 1
            elif time.monotonic() - since < 20:
                continue
            self.fleet.control.remove_fault(fault["id"])

    def keep_armed(self) -> None:
        """Keep a few points armed; one that no process reached is replaced by another.

        A process stopped within a transaction keeps its locks, so it is stopped briefly, or all others would only wait.
        """
        now = time.monotonic()
        for name, at in list(self.armed_at.items()):
            if not self.fleet.points.is_armed(name):
                del self.armed_at[name]
            elif now - at > 6:
                (self.fleet.points.directory / "armed" / name).unlink(missing_ok=True)
        while len(self.armed_at) < most_armed:
            match self.dice.choices(("kill", "stop", "raise"), (3, 3, 2))[0]:
                case "kill":
                    name = self.fleet.points.arm(self.dice.choice(kill_points), do="kill")
                case "stop":
                    point = self.dice.choice(kill_points)
                    seconds = self.dice.choice((0.3, 1.0) if point.endswith("uncommitted") else (0.3, 1.5, 3.0, 6.0))
                    name = self.fleet.points.arm(point, do="stop", seconds=seconds)
                case _:
                    what = self.dice.choice(list(raised))
                    name = self.fleet.points.arm(self.dice.choice(raise_points), do="raise", what=what)
            self.armed_at[name] = now

    def break_something(self) -> None:
        """Break something that the whole fleet uses."""
        acts: list[tuple[float, str, Callable[[], None]]] = [
            (3, "worker killed", self.kill_worker),
            (3, "worker stopped for a while", self.pause_worker),
            (2, "worker asked to stop", self.retire_worker),
            (1, "scheduler killed", self.kill_scheduler),
            (2, "Redis emptied", self.flush_redis),
            (1, "Redis stopped and started", lambda: self.restart_redis(self.fleet.valkey.stop)),
            (1, "Redis killed and started", lambda: self.restart_redis(self.fleet.valkey.kill)),
            (1, "Redis frozen for a while", self.freeze_redis),
            (1, "provider slower for a while", self.slow_provider),
            (1.5, "token endpoint out for a while", self.break_token_endpoint),
            (0.7, "keys rotated", self.rotate_keys),
        ]
        if self.fleet.postgres is not None:
            acts += [
                (2, "database frozen for a while", self.freeze_database),
                (1.5, "database stopped and started", self.restart_database),
            ]
        else:
            acts += [(3, "database locked for a while", self.lock_database)]
        _, label, act = self.dice.choices(acts, [weight for weight, *_ in acts])[0]
        self.counts[label] += 1
        act()

    def break_token_endpoint(self) -> None:
        """An outage: every token request gets the same answer, and nothing is run."""
        label, fault = self.dice.choice(outages)
        number = self.fleet.control.inject("token", count=None, **fault)
        self.outages.add(number)
        self.counts[f"outage: {label}"] += 1
        self.schedule(self.dice.uniform(2, 8), lambda: self.fleet.control.remove_fault(number))

    def some_worker(self) -> Child:
        return self.dice.choice([each for each in self.fleet.workers if not each.stopping])

    def kill_worker(self) -> None:
        worker = self.some_worker()
        self.killed.update((worker.pid, *children_of(worker.pid)))
        worker.send(signal.SIGKILL)

    def pause_worker(self) -> None:
        worker = self.some_worker()
        worker.send(signal.SIGSTOP)
        self.schedule(self.dice.uniform(0.5, 7.0), lambda: worker.send(signal.SIGCONT))

    def retire_worker(self) -> None:
        self.some_worker().ask_to_stop()

    def kill_scheduler(self) -> None:
        self.dice.choice(self.fleet.schedulers).send(signal.SIGKILL)

    def rotate_keys(self) -> None:
        """Give workers started from now on another key to seal with; the others keep the one they have."""
        self.fleet.rotate_keys()
        self.retire_worker()

    def flush_redis(self) -> None:
        """Read the streams in the same step first: what an application did not read in time is not ours to lose."""
        with suppress(redis.RedisError), self.fleet.redis() as client:
            step = client.pipeline(transaction=True)
            keys = list(self.positions)
            for key in keys:
                step.xrange(key, min=f"({self.positions[key]}")
            step.flushall()
            for key, entries in zip(keys, step.execute(), strict=False):
                if entries:
                    self.delivered += read_entries(key, entries)
                    self.positions[key] = entries[-1][0]

    def restart_redis(self, stop: Callable[[], None]) -> None:
        stop()
        self.outage = True

        def start() -> None:
            self.fleet.valkey.start()
            self.outage = False

        self.schedule(self.dice.uniform(0.2, 3.0), start)

    def freeze_redis(self) -> None:
        self.fleet.valkey.process.send_signal(signal.SIGSTOP)
        self.outage = True

        def thaw() -> None:
            self.fleet.valkey.process.send_signal(signal.SIGCONT)
            self.outage = False

        self.schedule(self.dice.uniform(0.2, 2.5), thaw)

    def freeze_database(self) -> None:
        postgres = self.fleet.postgres
        assert postgres is not None
        postgres.send_signal(signal.SIGSTOP)
        self.outage = True

        def thaw() -> None:
            postgres.send_signal(signal.SIGCONT)
            self.outage = False

        self.schedule(self.dice.uniform(0.2, 3.0), thaw)

    def restart_database(self) -> None:
        postgres = self.fleet.postgres
        assert postgres is not None
        postgres.stop()
        self.outage = True

        def start() -> None:
            postgres.start()
            self.outage = False

        self.schedule(self.dice.uniform(0.2, 3.0), start)

    def lock_database(self) -> None:
        seconds = self.dice.uniform(0.2, 3.5)

        def hold() -> None:
            with suppress(Exception), write_lock(self.fleet.database_url):
                time.sleep(seconds)

        self.outage = True
        self.pool.submit(hold)
        self.schedule(seconds, self.end_outage)

    def end_outage(self) -> None:
        self.outage = False

    def slow_provider(self) -> None:
        def restore() -> None:
            self.fleet.control.set(latency_ms=0)

        self.fleet.control.set(latency_ms=self.dice.choice((1, 20, 200, 700, 1_500)))
        self.schedule(self.dice.uniform(0.5, 3.0), restore)

    def come_to_rest(self, seconds: float) -> set[str]:
        """End every fault and refresh each connection again; return the ids of those that did."""
        self.fleet.points.disarm()
        self.tick()
        while self.later or any(until > time.monotonic() for until in self.stopped.values()):
            self.tick()
            time.sleep(0.05)
        self.fleet.wait_for_locks()
        self.count_provider_faults()
        self.fleet.control.clear_faults()
        for subject in self.subjects:
            if subject.consent is not None:
                subject.consent.result()
        self.wait(self.is_quiet, seconds)
        asked = (
            "UPDATE connection SET refresh_due_at = created_at, refresh_claimed_until = NULL WHERE status = 'active'"
        )
        before = {row.id: row.generation for row in self.fleet.rows("SELECT id, generation FROM connection")}
        self.fleet.change(asked)

        def came_through() -> set[str]:
            rows = self.fleet.rows("SELECT id, status, generation FROM connection")
            return {row.id for row in rows if row.status != "active" or row.generation > before.get(row.id, 0)}

        self.wait(lambda: came_through() >= set(before) and self.is_quiet(), seconds)
        return came_through()

    def read_all_events(self, seconds: float) -> int:
        """Wait until every event written by now is published, and read it; return the position of the last one.

        Syncs go on, and their later events are not part of this run."""
        [newest] = self.fleet.rows("SELECT max(position) AS position FROM event")
        until: int = newest.position or 0
        unpublished = "SELECT count(*) AS n FROM event WHERE published_at IS NULL AND position <= :until"
        self.wait(lambda: self.fleet.rows(unpublished, until=until)[0].n == 0, seconds)
        self.listen()
        return until

    def wait(self, holds: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.tick()
            with suppress(SQLAlchemyError):
                if holds():
                    return True
            time.sleep(0.2)
        return False

    def is_quiet(self) -> bool:
        """Whether no refresh is under way or due, no authorization open, nothing in the outbox, nothing parked."""
        waiting = (
            "SELECT count(*) AS n FROM credential JOIN connection ON id = connection_id "
            "WHERE status = 'active' AND presented_generation = generation AND presented_at IS NOT NULL",
            "SELECT count(*) AS n FROM authorization WHERE step IN ('received', 'granted')".replace(
                "authorization", '"authorization"'
            ),
            "SELECT count(*) AS n FROM event WHERE published_at IS NULL",
        )
        if any(self.fleet.rows(query)[0].n for query in waiting):
            return False
        if any(row.is_due and row.status == "active" for row in self.read_rows().values()):
            return False
        with self.fleet.redis() as client:
            return not client.hlen("breezesync:parked") and not list(self.fleet.directory.glob("var/spool/*.pair"))

    def close(self) -> None:
        self.pool.shutdown()


def send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def is_stopped(pid: int) -> bool:
    """Whether this process was stopped by a signal."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def is_past(at: Any, now: datetime) -> bool:
    """Whether a due time, as either database returns it, is past."""
    if at is None:
        return False
    read = datetime.fromisoformat(at) if isinstance(at, str) else at
    return bool((read if read.tzinfo else read.replace(tzinfo=UTC)) <= now)


@dataclass(frozen=True, slots=True)
class Result:
    verdict: Verdict
    faults: Counter[str]
    table: str


def run_chaos(
    database: Database,
    seed: int,
    faults: int,
    *,
    minutes: float,
    subjects: int = 100,
    workers: int = 8,
    reuse: str = "harmless",
    keep: Path | None = None,
    stopping: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda _: None,
) -> Result:
    """Run once from an empty database to the table; logs and traces are copied to `keep` in the end."""
    started = time.monotonic()
    with running_chaos_fleet(database, workers=workers, schedulers=2, reuse=reuse) as fleet:
        dice = random.Random(seed)
        accounts = fleet.control.add_users(subjects, "Chaos", documents=0)
        run = Run(fleet, dice, faults, [Subject(f"user-{n}", n) for n in accounts], workers, stopping=stopping, say=say)
        try:
            run.play(minutes * 60)
            at_rest = run.come_to_rest(600)
            until = run.read_all_events(120)
            evidence = collect(fleet, run.delivered, run.revocations, frozenset(run.killed), at_rest, until)
        finally:
            run.close()
            if keep is not None:
                fleet.keep(keep)
    verdict = judge(evidence)
    seconds = round(time.monotonic() - started)
    what = f"seed {seed}, {database}, {reuse}, {workers} workers, {subjects} users"
    title = f"chaos: {run.count} faults in {seconds} s ({what})"
    return Result(verdict, run.counts, draw(verdict, run.counts, title))
