"""How long each view of the operator's page takes to load: `python -m tests.bench.operator --rows 1000000 --json FILE`.

Fills a PostgreSQL of its own with connections and with six busy hours: syncs, requests, events, authorizations. Then
each view is loaded a few times, by a process that has just started and by one that has kept the figures over the whole
database.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import redis

from config.profiles import profile_directories, read_profile
from config.wiring import build_broker
from models.crypto.secrets import Secret
from models.queue import Queues
from models.store import Store
from tests.bench.plans import Recorder
from tests.bench.processes import describe_run
from tests.bench.rows import add_connections, fill_without_indexes
from tests.bench.world import DURABLE
from tests.databases import open_fast_engine, prepare_database
from tests.servers import Postgres, own_postgres, postgres_user, running_valkey
from worker.operator.views.authorizations import load_authorizations
from worker.operator.views.connections import Search, load_connections
from worker.operator.views.dead_letters import load_dead_letters
from worker.operator.views.events import load_events
from worker.operator.views.figures import FleetFigures
from worker.operator.views.groups import load_groups
from worker.operator.views.overview import load_overview
from worker.operator.views.providers import load_providers
from worker.operator.views.queues import load_queues
from worker.operator.views.sources import Sources
from worker.operator.views.story import load_story
from worker.operator.views.webhooks import load_webhooks

TIMES = 5
VARIED = {
    "created_at": "now() - interval '1 second' * g.number",
    "email": "'Person' || g.number || '@example.org'",
    "status": "CASE WHEN g.id < '05' THEN 'revoked' ELSE 'active' END",
    "problem": "CASE WHEN g.id > 'ff' THEN 'sync_failing' END",
}
"""A fiftieth of the connections is revoked, and of each 256 one fails."""
BUSY = {
    "sync_run": """
        INSERT INTO sync_run (id, connection_id, status, depth, counts, started_at, finished_at, place, page,
          pass_number, failures)
        SELECT md5('run' || g), md5((g % ROWS + 1)::text), CASE g % 50 WHEN 0 THEN 'failed' ELSE 'completed' END,
          'pulse', '{}', at, at, 0, 1, 0, 0
        FROM (SELECT g, now() - interval '6 hours' * g / ROWS AS at FROM generate_series(1, ROWS) g) s
    """,
    "request_batch": """
        INSERT INTO request_batch (at, connection_id, calls)
        SELECT now() - interval '6 hours' * g / ROWS, md5((g % ROWS + 1)::text),
          '[[0,"GET","/me",200,20],[30,"GET","/documents",429,9]]'
        FROM generate_series(1, ROWS) g
    """,
    "event": """
        INSERT INTO event (id, stream, type, provider, user_id, connection_id, subject, sequence, document, created_at,
          waits_since, published_at)
        SELECT md5('event' || g), 'records', 'record.updated', 'breezedoc', 'user', id, id, g,
          '{"time": "", "data": {"resource": "document"}}', now(), now(), now()
        FROM (SELECT g, md5((g % ROWS + 1)::text) AS id FROM generate_series(1, ROWS) g) s
    """,
    "authorization": """
        INSERT INTO "authorization" (id, provider, client_id, user_id, redirect_uri, step, state_hash, browser_hash,
          link_hash, created_at, expires_at, team_ids, attempts)
        SELECT md5('a' || g), 'breezedoc', 'c', 'user-' || g, '', CASE g % 20 WHEN 0 THEN 'failed' ELSE 'connected' END,
          g::text, g::text, g::text, now() - interval '1 second' * g, now(), '[]', 1
        FROM generate_series(1, ROWS) g
    """,
}
"""Six busy hours, each row of a connection of its own."""


@dataclass(frozen=True, slots=True)
class Timing:
    """What a view took.

    first: milliseconds at the first time. later: the median of five times more.
    pages: of 8 KB that the database read at the last time, from memory or disk; it does not depend on what else runs.
    scans: what was read from end to end then.
    """

    view: str
    first: float
    later: float
    pages: int
    scans: tuple[str, ...]


@contextmanager
def filled(rows: int) -> Iterator[str]:
    """Yield the URL of a database with so many connections."""
    with own_postgres(postgres_user(), **DURABLE | {"jit": "off"}) as server:
        url = Postgres(server.url).create_database()
        prepare_database(url)
        add_connections(url, rows, VARIED)
        for table, statement in BUSY.items():
            print(f"filling {table}", file=sys.stderr, flush=True)
            fill_without_indexes(url, f'"{table}"', statement.replace("ROWS", str(rows)))
        yield url


def views(sources: Sources, connection_id: str) -> Mapping[str, Callable[[], object]]:
    """Return what loads each view."""

    def search(**wanted: str) -> Callable[[], object]:
        return lambda: load_connections(sources, Search(**wanted))

    first = load_connections(sources, Search())
    assert first.older is not None
    return {
        "overview": lambda: load_overview(sources),
        "connections": search(),
        "connections, the next page": search(older_than=first.older),
        "connections by user": search(text="user-77777"),
        "connections by how an address begins": search(text="personuser-9"),
        "connections by how an id begins": search(text=connection_id[:10]),
        "connections, revoked": search(status="revoked"),
        "connections with a problem": search(problem="sync_failing"),
        "connections of a provider that has none": search(provider="other"),
        "connections of a provider that has none, with any problem": search(provider="other", problem="any"),
        "connections, revoked, with a problem": search(status="revoked", problem="sync_failing"),
        "story": lambda: load_story(sources, connection_id),
        "authorizations": lambda: load_authorizations(sources),
        "authorizations under way": lambda: load_authorizations(sources, "under_way"),
        "authorizations that failed": lambda: load_authorizations(sources, "failed"),
        "authorizations of a user": lambda: load_authorizations(sources, None, "user-40"),
        "events": lambda: load_events(sources),
        "events of a type that is rare": lambda: load_events(sources, "sync.failed"),
        "events of a connection": lambda: load_events(sources, None, connection_id),
        "dead letters": lambda: load_dead_letters(sources),
        "groups": lambda: load_groups(sources),
        "providers": lambda: load_providers(sources),
        "queues": lambda: load_queues(sources),
        "webhooks": lambda: load_webhooks(sources),
    }


def measure(rows: int) -> list[Timing]:
    with filled(rows) as url, running_valkey() as valkey:
        engine = open_fast_engine(url)
        recorder = Recorder(engine)
        store = Store(engine)
        settings: Any = type("Settings", (), {"redis_url": Secret(valkey.url)})
        broker = build_broker(settings)
        with store.reading() as tx:
            connection_id = tx.connections.find(limit=1)[0].id
        profiles = {"breezedoc": read_profile("breezedoc", {}, profile_directories())}
        client = redis.Redis.from_url(valkey.url, decode_responses=True)
        streams = ("breezesync:events", "breezesync:records", "breezesync:commands")
        sources = Sources(
            store,
            Queues(broker, client),
            profiles,
            {"breezedoc": frozenset({"bench"})},
            streams,
            FleetFigures(store),
            "bench",
        )
        found = [time_view(name, load, recorder) for name, load in views(sources, connection_id).items()]
        client.close()
        broker.client.close()
        store.close()
    return found


def time_view(name: str, load: Callable[[], object], recorder: Recorder) -> Timing:
    took = []
    recorder.what = name
    for _ in range(TIMES + 1):
        recorder.plans.clear()
        began = perf_counter()
        load()
        took.append((perf_counter() - began) * 1000)
    recorder.what = ""
    pages, scans = sum(plan.pages for plan in recorder.plans), [scan for plan in recorder.plans for scan in plan.scans]
    return Timing(name, round(took[0], 1), round(median(took[1:]), 1), pages, tuple(dict.fromkeys(scans)))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.operator", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--json", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    timings = measure(chosen.rows)
    for each in timings:
        print(
            f"{each.view}: {each.first:.1f} ms at first, {each.later:.1f} ms later, {each.pages} pages {each.scans}",
            flush=True,
        )
    if chosen.json is not None:
        document = {**describe_run("tests.bench.operator"), "rows": chosen.rows, "views": [asdict(t) for t in timings]}
        chosen.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
