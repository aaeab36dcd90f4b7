"""Events under siege: `python -m tests.torture.soak` changes state by the thousands while all around it breaks.

Writers change connections in real transactions. Workers that publish are killed and paused, schedulers killed, Redis is
emptied twice and killed once. Two applications listen, one slowly, one that is killed again and again; each keeps its
place in a file, skips repeats, and on a gap has the events replayed. In the end each must have applied every event, per
connection in order, with the id that the database has.
"""

import argparse
import json
import random
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import redis

from models.crypto.secrets import Secret
from models.messaging.events import Fact, RecordChanged
from models.oauth.connection import Connection, NewPair, Status, refresh
from models.store import Store, open_engine
from tests.processes import Fleet, Program, running_fleet
from tests.servers import Valkey, running_postgres, running_valkey, wait_until

streams = ("breezesync:events", "breezesync:records")
margin = timedelta(seconds=60)
writers = 4
later = timedelta(days=365)


@dataclass
class Figures:
    """What a soak counts."""

    changes: int
    connections: int
    events: int = 0
    seconds: float = 0
    workers_killed: int = 0
    workers_paused: int = 0
    schedulers_killed: int = 0
    consumers_killed: int = 0
    redis_emptied: int = 0
    redis_killed: int = 0
    slowest_return: float = 0
    received: dict[str, int] = field(default_factory=dict)
    applied: dict[str, int] = field(default_factory=dict)
    gaps_met: dict[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        done = [f"{self.changes} changes of {self.connections} connections, {self.events} events, {self.seconds:.0f} s"]
        done.append(
            f"killed: {self.workers_killed} workers, {self.schedulers_killed} schedulers, {self.consumers_killed} "
            f"consumers; paused past their lease: {self.workers_paused} workers"
        )
        done.append(
            f"Redis emptied {self.redis_emptied} times, killed {self.redis_killed} times; the first event afterwards "
            f"came within {self.slowest_return:.1f} s"
        )
        for name, applied in self.applied.items():
            repeats = self.received[name] - applied
            done.append(
                f"{name}: {applied} applied in order, {repeats} repeats, {self.gaps_met[name]} gaps met, none is left"
            )
        return done


class Application:
    """One consumer of a group: applies each event once and in order, and keeps its place in a file of its own."""

    def __init__(self, name: str, state: Path, redis_url: str, database_url: str, pause: float) -> None:
        self.name = name
        self.redis: Any = redis.Redis.from_url(redis_url, decode_responses=True, socket_timeout=10)
        self.store = Store(open_engine(Secret(database_url)))
        self.pause = pause
        self.most = 50 if pause else 500
        self.consumer = f"{name}-{time.time_ns()}"
        self.file = open_state(state)

    def listen(self) -> None:
        """For ever: what a predecessor took and never acknowledged first, then what is new."""
        claimed = dict.fromkeys(streams, False)
        checked = time.monotonic()
        while True:
            try:
                for stream in streams:
                    if not claimed[stream]:
                        taken = self.redis.xautoclaim(stream, self.name, self.consumer, 0, count=1000)
                        self._handle(stream, taken[1])
                        claimed[stream] = taken[0] == "0-0"
                found = self.redis.xreadgroup(
                    self.name, self.consumer, dict.fromkeys(streams, ">"), count=self.most, block=300
                )
                for stream, batches in found.items() if isinstance(found, dict) else found or ():
                    entries = batches[0] if batches and isinstance(batches[0], list) else batches
                    self._handle(stream, entries)
            except redis.ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                self._begin_again()
                claimed = dict.fromkeys(streams, True)
            except redis.RedisError:
                time.sleep(0.1)
            if time.monotonic() - checked > 1:
                self._fill_gaps()
                checked = time.monotonic()

    def _handle(self, stream: str, entries: Sequence[tuple[str, dict[str, str]]]) -> None:
        if not entries:
            return
        with self.file as file:
            for _, fields in entries:
                self._apply(file, stream, fields)
        self.redis.xack(stream, self.name, *(entry_id for entry_id, _ in entries))
        time.sleep(self.pause)

    def _apply(self, file: sqlite3.Connection, stream: str, fields: dict[str, str]) -> None:
        subject, sequence, event_id = fields["connection_id"], int(fields["sequence"]), fields["id"]
        row = file.execute("SELECT applied, seen FROM place WHERE subject = ? AND stream = ?", (subject, stream))
        applied, seen = row.fetchone() or (0, 0)
        file.execute("UPDATE count SET received = received + 1")
        if sequence == applied + 1:
            applied = sequence
            values = (subject, stream, sequence, event_id)
            file.execute("INSERT INTO heard (subject, stream, sequence, id) VALUES (?, ?, ?, ?)", values)
        elif sequence <= applied:
            known = file.execute(
                "SELECT id FROM heard WHERE subject = ? AND stream = ? AND sequence = ?", (subject, stream, sequence)
            ).fetchone()
            if known != (event_id,):
                file.execute("UPDATE count SET other_ids = other_ids + 1")
        elif seen <= applied:
            file.execute("UPDATE count SET gaps = gaps + 1")
        at = json.loads(fields["event"])["time"] if sequence == applied else None
        file.execute(
            "INSERT INTO place VALUES (?, ?, ?, ?, coalesce(?, '')) ON CONFLICT (subject, stream) DO UPDATE SET "
            "applied = excluded.applied, seen = max(seen, excluded.seen), at = coalesce(?, at)",
            (subject, stream, applied, max(seen, sequence), at, at),
        )

    def _begin_again(self) -> None:
        """Redis was emptied: create the groups again and replay all that may have been lost."""
        for stream in streams:
            with suppress(redis.ResponseError):
                self.redis.xgroup_create(stream, self.name, id="0", mkstream=True)
        newest = [
            self.file.execute("SELECT max(at) FROM place WHERE stream = ?", (stream,)).fetchone()[0]
            for stream in streams
        ]
        since = min((read_time(at) for at in newest), default=read_time(None)) - margin
        with self.store.writing() as tx:
            tx.outbox.republish_since(since, datetime.now(UTC))

    def _fill_gaps(self) -> None:
        """Replay each connection whose sequence has a gap, from the last event that was applied."""
        holes = self.file.execute("SELECT subject, min(at) FROM place WHERE seen > applied GROUP BY subject LIMIT 200")
        for subject, at in holes.fetchall():
            with self.store.writing() as tx:
                tx.outbox.republish_since(read_time(at) - margin, datetime.now(UTC), connection_id=subject)


def read_time(text: str | None) -> datetime:
    return datetime.fromisoformat(text) if text else datetime(2000, 1, 1, tzinfo=UTC)


def open_state(path: Path) -> sqlite3.Connection:
    file = sqlite3.connect(path, timeout=30, isolation_level="IMMEDIATE")
    file.execute("PRAGMA journal_mode=WAL")
    file.execute("PRAGMA synchronous=OFF")
    with file:
        file.executescript(
            "CREATE TABLE IF NOT EXISTS place (subject, stream, applied INTEGER, seen INTEGER, at, "
            "PRIMARY KEY (subject, stream));"
            "CREATE TABLE IF NOT EXISTS heard (position INTEGER PRIMARY KEY, subject, stream, sequence INTEGER, id, "
            "UNIQUE (subject, stream, sequence));"
            "CREATE TABLE IF NOT EXISTS count (received INTEGER, gaps INTEGER, other_ids INTEGER);"
            "INSERT INTO count SELECT 0, 0, 0 WHERE NOT EXISTS (SELECT 1 FROM count);"
        )
    return file


@dataclass
class Soak:
    """One run. Everything that is broken on purpose is broken by how far the writing is: the same for each seed."""

    changes: int
    connections: int
    seed: int
    fleet: Fleet
    valkey: Valkey
    store: Store
    directory: Path
    report: Callable[[str], None]

    def __post_init__(self) -> None:
        self.figures = Figures(self.changes, self.connections)
        self.dice = random.Random(self.seed)
        self.written = 0
        self.lock = threading.Lock()
        self.consumers: dict[str, Program] = {}
        self.lives = 0

    def run(self) -> Figures:
        began = time.monotonic()
        ids = self._add_connections()
        try:
            for name in ("slow", "crashing"):
                self._start_consumer(name)
            threads = [threading.Thread(target=self._write, args=(ids[n::writers], n)) for n in range(writers)]
            for thread in threads:
                thread.start()
            self._break_things()
            for thread in threads:
                thread.join()
            self._wait_for_all()
        finally:
            for consumer in self.consumers.values():
                consumer.kill()
        self._count()
        self.figures.seconds = time.monotonic() - began
        return self.figures

    def _add_connections(self) -> list[str]:
        ids = [f"soak{number:06d}" for number in range(self.connections)]
        with self.store.writing() as tx:
            for each in ids:
                tx.connections.add(
                    Connection(each, each, "breezedoc", "client", "1", Status.active, datetime.now(UTC), generation=0)
                )
        return ids

    def _write(self, ids: list[str], which: int) -> None:
        """Each connection belongs to one writer, as a lease would have it; the order of changes is the dice's."""
        dice = random.Random(self.seed * 1000 + which)
        share = self.changes // writers + (which < self.changes % writers)
        for _ in range(share):
            self._change(dice.choice(ids), dice)
            with self.lock:
                self.written += 1

    def _change(self, connection_id: str, dice: random.Random) -> None:
        now = datetime.now(UTC)
        with self.store.writing() as tx:
            found = tx.connections.lock(connection_id)
            assert found is not None
            held, facts = refresh(found, NewPair(now, later, None))
            more: tuple[Fact, ...] = ()
            if dice.random() < 0.3:
                more = (RecordChanged("updated", "document", str(dice.randrange(1000)), ("title",), initial=False),)
            assert tx.connections.save(replace(held, refresh_due_at=None), found.generation)
            tx.outbox.append(held.about, [*facts, *more], now)

    def _break_things(self) -> None:
        plan: list[Callable[[], None]] = [
            self._kill_worker,
            self._kill_consumer,
            self._empty_redis,
            self._pause_worker,
            self._kill_consumer,
            self._kill_redis,
            self._kill_worker,
            self._kill_scheduler,
            self._kill_consumer,
            self._empty_redis,
            self._kill_worker,
            self._kill_consumer,
        ]
        for number, step in enumerate(plan, start=1):
            due = self.changes * number // (len(plan) + 1)
            wait_until(lambda due=due: self.written >= due, f"{due} changes are written", 3600)  # type: ignore[misc]
            step()
            self.report(f"{self.written} of {self.changes} changes; {step.__name__.strip('_').replace('_', ' ')}")

    def _running(self, kind: str) -> Program:
        return self.dice.choice([each for each in self.fleet.programs if each.name.startswith(kind) and each.runs])

    def _kill_worker(self) -> None:
        self._running("worker").kill()
        self.fleet.start_worker(threads=2)
        self.figures.workers_killed += 1

    def _kill_scheduler(self) -> None:
        self._running("scheduler").kill()
        self.fleet.start_scheduler()
        self.figures.schedulers_killed += 1

    def _pause_worker(self) -> None:
        """For longer than a publisher's lease, while the others go on."""
        worker = self._running("worker")
        worker.pause()
        threading.Timer(7, worker.resume).start()
        self.figures.workers_paused += 1

    def _kill_consumer(self) -> None:
        self.consumers["crashing"].kill()
        self._start_consumer("crashing")
        self.figures.consumers_killed += 1

    def _empty_redis(self) -> None:
        self.valkey.flush()
        self.figures.redis_emptied += 1
        self._see_return()

    def _kill_redis(self) -> None:
        self.valkey.kill()
        self.valkey.start()
        self.figures.redis_killed += 1
        self._see_return()

    def _see_return(self) -> None:
        """How long it takes until an event comes that was not there when Redis was back."""
        since = time.monotonic()
        with redis.Redis.from_url(self.valkey.url, decode_responses=True) as client:
            before = client.xrevrange(streams[0], count=1)
            wait_until(lambda: client.xrevrange(streams[0], count=1) != before, "an event comes again", 120)
        self.figures.slowest_return = max(self.figures.slowest_return, time.monotonic() - since)

    def _start_consumer(self, name: str) -> None:
        self.lives += 1
        open_state(self.directory / f"{name}.state").close()
        arguments = ["tests.torture.soak", "listen", name, str(self.directory / f"{name}.state"), self.fleet.redis_url]
        arguments += [self.fleet.database_url, "0.1" if name == "slow" else "0"]
        environment = dict(self.fleet.environment)
        self.consumers[name] = Program(f"{name}-{self.lives}", arguments, environment, self.directory)

    def _wait_for_all(self) -> None:
        with self.store.reading() as tx:
            self.figures.events = len(self._events_of(tx))

        def is_done() -> bool:
            with self.store.reading() as tx:
                if tx.outbox.is_waiting():
                    return False
            return all(
                self._ask(name, "SELECT count(*) FROM heard")[0] == self.figures.events for name in self.consumers
            )

        self.fleet.wait_until(is_done, "every event is applied by both", 900)

    @staticmethod
    def _events_of(tx: Any) -> dict[tuple[str, str, int], str]:
        found = tx.outbox.read(limit=10_000_000)
        return {(e.connection_id, f"breezesync:{e.stream}", e.sequence): e.id for _, e in found}

    def _ask(self, name: str, query: str) -> Any:
        with closing(sqlite3.connect(self.directory / f"{name}.state", timeout=30)) as file:
            return file.execute(query).fetchone() or (0,)

    def _count(self) -> None:
        """AssertionError if an event is missing, out of order, or came with another id."""
        with self.store.reading() as tx:
            stored = self._events_of(tx)
            generations = {each.id: each.generation for each in tx.connections.find(limit=1_000_000)}
        changes: dict[str, int] = {}
        for subject, stream, _ in stored:
            changes[subject] = changes.get(subject, 0) + (stream == streams[0])
        assert {subject: count for subject, count in generations.items() if count} == changes
        assert sum(changes.values()) == self.changes
        for name in self.consumers:
            with closing(sqlite3.connect(self.directory / f"{name}.state")) as file:
                heard = file.execute("SELECT subject, stream, sequence, id FROM heard ORDER BY position").fetchall()
                received, gaps, other_ids = file.execute("SELECT received, gaps, other_ids FROM count").fetchone()
                holes = file.execute("SELECT count(*) FROM place WHERE seen > applied").fetchone()[0]
            last: dict[tuple[str, str], int] = {}
            for subject, stream, sequence, event_id in heard:
                assert sequence == last.get((subject, stream), 0) + 1, "out of order"
                assert stored[subject, stream, sequence] == event_id
                last[subject, stream] = sequence
            assert (len(heard), other_ids, holes) == (len(stored), 0, 0)
            self.figures.received[name] = received
            self.figures.applied[name] = len(heard)
            self.figures.gaps_met[name] = gaps


def soak(
    changes: int,
    connections: int,
    seed: int,
    database_url: str,
    valkey: Valkey,
    directory: Path,
    report: Callable[[str], None],
) -> Figures:
    """Run one soak on an empty database and return its figures; AssertionError if a promise is broken."""
    with running_fleet(database_url, valkey.url, directory, workers=2, schedulers=2) as fleet:
        store = Store(open_engine(Secret(database_url)))
        try:
            return Soak(changes, connections, seed, fleet, valkey, store, directory, report).run()
        finally:
            store.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    commands = parser.add_subparsers(dest="command")
    listen = commands.add_parser("listen")
    for name in ("name", "state", "redis_url", "database_url", "pause"):
        listen.add_argument(name)
    parser.add_argument("--changes", type=int, default=50_000)
    parser.add_argument("--connections", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if given.command == "listen":
        Application(given.name, Path(given.state), given.redis_url, given.database_url, float(given.pause)).listen()
    with (
        tempfile.TemporaryDirectory() as place,
        running_postgres() as postgres,
        running_valkey(persistent=True) as valkey,
    ):
        url = postgres.create_database()
        figures = soak(given.changes, given.connections, given.seed, url, valkey, Path(place), say)
    for line in figures.lines():
        say(line)
    return 0


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
