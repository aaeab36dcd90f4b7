"""What is measured within one process of ours: `python -m tests.bench.inside enqueue | publish | claim ROWS`.

Prints a list of figures as JSON. The settings are those of our processes; no worker reads this Redis.
"""

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import dramatiq
import redis
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import text

from config.settings import Settings, read_settings
from config.wiring import open_services
from models.messaging import messages
from models.messaging.events import About, RecordChanged, describe
from models.store import Store
from scheduler.sweep import Sweep
from tests.bench.rows import add_connections
from tests.harness import ListQueue
from worker.processes.parts import build_flows, build_parts

TIMES = 7
DUE = 1_000
EVENTS = 10_000


def enqueue(settings: Settings) -> dict[str, list[float]]:
    """Return CPU milliseconds for 1,000 messages: of our queue, and of a pipeline that does nothing else."""
    services = open_services(settings, "bench")
    batch = [messages.read_connection(f"{number:032x}") for number in range(DUE)]
    plain = redis.Redis.from_url(settings.redis_url.reveal())
    found: dict[str, list[float]] = {"ours": [], "floor": []}
    for _ in range(TIMES + 1):
        found["ours"].append(1_000 * cpu_of(lambda: services.queue.send_all(batch)))
        found["floor"].append(1_000 * cpu_of(lambda: send_plainly(plain, batch)))
        plain.flushdb()
    services.close()
    return {side: figures[1:] for side, figures in found.items()}


def send_plainly(client: "redis.Redis", batch: list[messages.Message]) -> None:
    pipeline = client.pipeline(transaction=False)
    for each in batch:
        message: dramatiq.Message[None] = dramatiq.Message(
            queue_name=each.queue, actor_name=each.actor, args=(), kwargs=dict(each.kwargs), options={}
        )
        pipeline.hset("floor.msgs", message.message_id, message.encode())
        pipeline.rpush("floor", message.message_id)
    pipeline.execute()


def publish(settings: Settings) -> dict[str, list[float]]:
    """Return events for each CPU second of the publisher, with the database and Redis."""
    services = open_services(settings, "bench")
    flow = build_flows(build_parts(settings, services)).publish
    rates = []
    for number in range(TIMES - 2):
        with services.store.writing() as tx:
            add_events(tx.sql, f"bench-{number}")
        rates.append(EVENTS / cpu_of(flow))
    services.close()
    return {"ours": rates[1:]}


def add_events(sql: SqlConnection, connection: str) -> None:
    """Write what a first sync of a large account would."""
    about = About("breezedoc", "user-1", connection)
    event = describe(RecordChanged("created", "document", "1", (), True), about, "0" * 32, 1, datetime.now(UTC))
    columns = "id, stream, type, provider, user_id, connection_id, subject, sequence, document, created_at, waits_since"
    rows = "SELECT md5(:about || g), :stream, :type, :provider, :user, :about, :about, g, :document, now(), now()"
    sql.execute(
        text(f"INSERT INTO event ({columns}) {rows} FROM generate_series(1, :count) g"),
        {
            "about": connection,
            "stream": event.stream,
            "type": event.type,
            "provider": about.provider,
            "user": about.user_id,
            "document": event.document,
            "count": EVENTS,
        },
    )


def claim(settings: Settings, rows: int) -> dict[str, list[float]]:
    """Return the milliseconds of a pass of the scheduler that claims 1,000 among so many connections: syncs (`ours`),
    and refreshes."""
    services = open_services(settings, "bench")
    queue = ListQueue()
    sweep = Sweep(services.store, queue, services.now, {"breezedoc": 1_000_000})
    add_connections(settings.database_url.reveal(), rows)
    found: dict[str, list[float]] = {}
    for side, column in (("ours", "sync_due_at"), ("refreshes", "refresh_due_at")):
        durations = []
        for number in range(TIMES + 1):
            make_due(services.store, column, number)
            queue.held.clear()
            begun = time.monotonic()
            if (claimed := sweep()) != DUE:
                raise AssertionError(f"the pass claimed {claimed}")
            durations.append(1_000 * (time.monotonic() - begun))
        make_due(services.store, column, 0, due=0)
        found[side] = durations[1:]
    services.close()
    return found


def make_due(store: Store, column: str, number: int, due: int = DUE) -> None:
    """Make so many connections due, all over the table, and no other."""
    chosen = "SELECT md5((:number + 9 * g)::text) FROM generate_series(1, :due) g"
    with store.writing() as tx:
        tx.sql.execute(text(f"UPDATE connection SET {column} = now() + interval '1 day' WHERE {column} < now()"))
        past = f"UPDATE connection SET {column} = now() - interval '1 second' WHERE id IN ({chosen})"
        tx.sql.execute(text(past), {"number": number, "due": due})


def cpu_of(work: Callable[[], object]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


def main() -> None:
    settings, arguments = read_settings(), sys.argv[1:]
    measures: dict[str, Callable[..., Any]] = {"enqueue": enqueue, "publish": publish, "claim": claim}
    print("FIGURES", json.dumps(measures[arguments[0]](settings, *map(int, arguments[1:]))))


if __name__ == "__main__":
    main()
