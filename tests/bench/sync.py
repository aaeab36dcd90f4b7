"""Figures of a sync, on real processes: `python -m tests.bench.sync limit | large | neighbour`.

limit       one large account, three users of it, many workers, the provider's own limit: requests by minute.
large       a large account with the limit raised, two workers killed on the way: time, memory, and what a second sync
            writes and publishes.
neighbour   how long another account's sync waits while the large one is read with the limit raised.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import quantiles

from tests.processes import Fleet, running_fleet
from tests.servers import running_postgres, running_valkey

unlimited = {"BREEZEDOC_API_REQUESTS_PER_MINUTE": "1000000", "SYNC_INTERVAL": "1h"}


@contextmanager
def fleet(workers: int, **settings: str) -> Iterator[Fleet]:
    with running_postgres() as postgres, running_valkey() as valkey, tempfile.TemporaryDirectory() as directory:
        url = postgres.create_database()
        with running_fleet(url, valkey.url, Path(directory), workers=workers, schedulers=1, **settings) as running:
            yield running
        postgres.drop_database(url)


def limit(workers: int, documents: int, minutes: int) -> None:
    """The steady state is looked at: the minutes after the first."""
    with fleet(workers, SWEEP_INTERVAL="1s") as running:
        account = running.control.add_user("Large", documents=documents)
        for user in ("ada", "grace", "linus"):
            running.connect(user, account)
        time.sleep(60 * (minutes + 1))
        counted = running.control.counters(tokens=False)
        rows = running.rows("SELECT at FROM request_log WHERE method = 'GET' ORDER BY at")
        at = [row.at.timestamp() if hasattr(row.at, "timestamp") else 0.0 for row in rows]
        sliding = max(sum(start <= other < start + 60 for other in at) for start in at)
        steady = [moment for moment in at if at[0] + 61 <= moment < at[0] + 61 + 60 * minutes]
        refused = sum(statuses.get("429", 0) for statuses in counted["totals"].values())
    print(f"{workers} workers, {minutes} minutes, 3 connections of one account with {documents} documents, limit 60:")
    print(f"  seen by the provider by minute of its clock: {list(counted['api_requests'][str(account)].values())}")
    print(f"  most in any 60 seconds, by the request log: {sliding}; refused with 429: {refused}")
    print(f"  used of the limit after the first minute: {len(steady) / minutes / 60:.1%}")


def large(documents: int) -> None:
    with fleet(1, **unlimited) as running:
        running.control.set(rate_limit=0)
        account = running.control.add_user("Large", documents=documents)
        started = time.monotonic()
        connection = running.connect("ada", account)
        kills = [documents // 3, 2 * documents // 3]
        memory: list[int] = []
        while not ended(running, connection, 1):
            time.sleep(1)
            memory.append(resident(running))
            if kills and stored(running, connection) >= kills[0]:
                kills.pop(0)
                [worker] = [p for p in running.programs if p.name.startswith("worker") and p.runs]
                worker.kill()
                running.start_worker()
        seconds, records = time.monotonic() - started, stored(running, connection, "")
        events = count(running, "event WHERE stream = 'records'")
        told_of = "concat(document::json #>> '{data,resource}', document::json #>> '{data,external_id}')"
        lives = count(running, f"(SELECT DISTINCT {told_of} FROM event WHERE stream = 'records') e")
        print(f"{documents} documents, {records} records in all, the limit raised, 2 workers killed: {seconds:.0f} s")
        print(f"  record events: {events}; of a record published before: {events - lives}")
        third = max(len(memory) // 3, 1)
        used = [max(part) for part in (memory[:third], memory[third : 2 * third], memory[2 * third :]) if part]
        print(f"  most memory of the worker in each third of that time, in MiB: {[kib // 1024 for kib in used]}")
        last = running.rows("SELECT max(changed_at) AS at FROM record")[0].at
        started = time.monotonic()
        running.ask("sync_connection", "sync", connection_id=connection)
        running.wait_until(lambda: ended(running, connection, 2), "the second reading", 1800)
        written = count(running, "record WHERE changed_at > :last", last=last)
        told = count(running, "event WHERE stream = 'records'") - events
        seconds = time.monotonic() - started
        print(f"  read again, unchanged, in {seconds:.0f} s: {written} records written, {told} events published")


def neighbour(documents: int, others: int) -> None:
    with fleet(2, **unlimited) as running:
        running.control.set(rate_limit=0)
        big = running.connect("big", running.control.add_user("Large", documents=documents))
        small = [
            running.connect(f"user-{n}", running.control.add_user(f"User {n}", documents=5)) for n in range(others)
        ]
        running.wait_until(lambda: all(ended(running, each, 1) for each in small), "the first readings", 600)
        waits = []
        for each in small * 3:
            asked = time.time()
            before = runs(running, each)
            running.ask("sync_connection", "sync", connection_id=each)
            running.wait_until(lambda each=each, before=before: runs(running, each) > before, "it begins", 120)  # type: ignore[misc]
            [row] = running.rows("SELECT max(started_at) AS at FROM sync_run WHERE connection_id = :id", id=each)
            waits.append(max(row.at.timestamp() - asked, 0))
            time.sleep(0.2)
        busy = not ended(running, big, 1)
        cuts = quantiles(waits, n=20)
        print(f"{len(waits)} syncs of {others} small accounts beside one with {documents} documents, 2 workers:")
        print(f"  wait until they begin: p50 {cuts[9]:.2f} s, p95 {cuts[18]:.2f} s, most {max(waits):.2f} s")
        print(f"  the large one was still being read at the end: {busy}")


def count(running: Fleet, what: str, **values: object) -> int:
    return int(running.rows(f"SELECT count(*) AS n FROM {what}", **values)[0].n)


def runs(running: Fleet, connection: str) -> int:
    return count(running, "sync_run WHERE connection_id = :id", id=connection)


def ended(running: Fleet, connection: str, times: int) -> bool:
    return count(running, "sync_run WHERE connection_id = :id AND status = 'completed'", id=connection) >= times


def stored(running: Fleet, connection: str, resource: str = "document") -> int:
    return count(running, "record WHERE connection_id = :id AND :name IN ('', resource)", id=connection, name=resource)


def resident(running: Fleet) -> int:
    """The memory of the worker's largest process, in KiB."""
    groups = {program.pid for program in running.programs if program.name.startswith("worker") and program.runs}
    largest = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[2]) in groups:
                largest = max(largest, int(fields[21]) * 4)
    return largest


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else "all"
    numbers = [int(number) for number in sys.argv[2:]]
    if what in ("limit", "all"):
        limit(*(numbers or (20, 2000, 3)))
    if what in ("large", "all"):
        large(*(numbers or (10_000,)))
    if what in ("neighbour", "all"):
        neighbour(*(numbers or (50_000, 20)))
