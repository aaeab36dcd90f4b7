"""A worker and a scheduler together: what they use with nothing to do, and how soon a revocation is an event."""

import time
from statistics import quantiles
from typing import Any

import redis

from models.messaging import messages
from tests.bench.accounts import LEAVING, connection_id
from tests.bench.jobs import Bench
from tests.bench.meters import family_of
from tests.bench.ours import Ours
from tests.bench.processes import MeasurementFailed
from tests.servers import wait_until

IDLE_SECONDS = 15
ENDED = "connection.reauthorization_required"


def measure_fleet(bench: Bench, ours: Ours) -> None:
    ours.execute("UPDATE connection SET sync_due_at = now() + interval '1 day'")
    scheduler = ours.start("scheduler", "scheduler")
    ours.wait_until_idle()
    time.sleep(3)
    measure_detection(bench, ours)
    ours.wait_until_idle()
    measure_idle(bench, ours, scheduler.pid)
    scheduler.stop()


def measure_detection(bench: Bench, ours: Ours) -> None:
    """One user after another revokes; the time runs from the first 401 to the event's arrival."""
    latencies = []
    with redis.Redis.from_url(ours.world.redis(0), decode_responses=True) as client:
        for account in LEAVING:
            bench.world.provider.revoke(account)
            last = client.xrevrange("breezesync:events", count=1)
            position = last[0][0] if last else "0"
            ours.enqueue(messages.sync_connection(connection_id(account)))
            arrived = wait_for_end(client, connection_id(account), position)
            latencies.append(arrived - bench.world.provider.refused_at(account))
    bench.note("detection.p99", "ours", quantiles(latencies, n=100, method="inclusive")[98] * 1_000)
    bench.note("detection.p50", "ours", quantiles(latencies, n=2)[0] * 1_000)


def wait_for_end(client: Any, connection: str, position: str) -> float:
    """Return when the event of the connection's end came."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        for _, entries in client.xread({"breezesync:events": position}, block=1_000) or ():
            arrived = time.monotonic()
            position = entries[-1][0]
            if any(fields["connection_id"] == connection and fields["type"] == ENDED for _, fields in entries):
                return arrived
    raise MeasurementFailed(f"no {ENDED} within 20 seconds of a 401")


def measure_idle(bench: Bench, ours: Ours, scheduler: int) -> None:
    wait_until(lambda: ours.fetch("SELECT count(*) FROM audit WHERE number IS NULL") == 0, "the audit is chained")
    asked = bench.world.provider.count_requests()
    floor = ours.start("idle", "tests.bench.idle")
    time.sleep(1)
    pids = (ours.worker.pid, scheduler, floor.pid)
    before = [bench.world.meters.read(ours.database, family_of(pid)) for pid in pids]
    time.sleep(IDLE_SECONDS)
    after = [bench.world.meters.read(ours.database, family_of(pid)) for pid in pids]
    floor.stop()
    if bench.world.provider.count_requests() != asked:
        raise MeasurementFailed("the fleet was not idle: it asked the provider")
    worker, sweeping, asking = (end - start for end, start in zip(after, before, strict=True))
    bench.note("idle.worker", "ours", worker.cpu / worker.wall * 100)
    bench.note("idle.scheduler", "ours", sweeping.cpu / sweeping.wall * 100)
    for row in ("idle.worker", "idle.scheduler"):
        bench.note(row, "floor", asking.cpu / asking.wall * 100)
    # One of them each second is the floor's.
    bench.note("idle.redis", "ours", worker.round_trips / worker.wall - 1)
