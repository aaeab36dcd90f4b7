"""A fleet that has something to show: real flows against the sandbox, and rows for those that are many."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import dramatiq
import redis
from sqlalchemy import insert, select, text, update

import sandbox
from models.crypto.secrets import Sealed
from models.journal import Request
from models.oauth.token_rate_limit import second_of
from models.process import Process
from models.store import Store
from models.store.request_batch import pack
from models.store.rows import table_of
from models.store.tables import ConnectionRow, EventRow, HoldRow, PaceRow, RequestBatchRow, SyncRunRow
from models.webhooks.delivery import Delivery, begin_trial, end_trial, letter_key
from models.webhooks.endpoint import Endpoint
from models.webhooks.outcome import Refused
from tests.databases import create_sqlite
from tests.harness import House, build_house

hours = 6
first_names = (
    *("amina", "bo", "chen", "dara", "elif", "femi", "greta", "hugo", "ines", "jun"),
    *("kofi", "lena", "milo", "nour", "omar", "pia", "quinn", "rosa", "sven", "tala"),
)
companies = (
    *("harbor-dental", "northwind-legal", "oakline", "stonebridge"),
    *("fernhill-studio", "bluebird-foods", "atlas-freight"),
)
hostile = "<script>alert(1)</script> \"&amp;' \u05e9\u05dc\u05d5\u05dd " + "x" * 220
"""What a user's id may be: markup, a change of direction, and as long as it can be."""


@contextmanager
def built_scene(directory: Path, redis_url: str, many: int = 470) -> Iterator[tuple[Store, str]]:
    """A fleet's database and Redis, after six hours: its store, and the id of a connection with a story."""
    with sandbox.running() as provider:
        house = build_house(create_sqlite(directory / "scene.db"), provider, directory / "spool")
        house.clock.turn(timedelta(hours=-hours))
        story = _live(house)
        _disturb(house)
        _fill(house, many, random.Random(7))
        _fill_redis(house, redis_url)
        _add_endpoints(house)
        yield house.store, story
        for client in house.flows.refresh.providers.values():
            client.close()
        house.store.close()


def _live(house: House) -> str:
    """Connect a few users, whose syncs and changes make six hours of stories; the id of the one to look at."""
    grace = house.connect("grace@harbor-dental", 2)
    for user, account in (("ada@northwind-legal", 1), (hostile[:255], 4)):
        house.connect(user, account)
    house.flows.exchange(house.consent("barbara@stonebridge", 5))
    house.work()
    for turn in range(hours * 2 - 1):
        house.turn(minutes=30)
        if turn in (3, 7):
            house.control.edit_document(2, house.control.documents(2)[0]["id"], f"Offer, version {turn}")
        if turn == 5:
            house.control.inject("api", kind="status", status=500, count=6)
        house.sweep()
    house.make_refresh_due(grace.id)
    house.sweep()
    return grace.id


def _disturb(house: House) -> None:
    """Let a few users fail to connect, and the provider lose its keys: it refuses many, which are held."""
    house.turn(minutes=23)
    house.sweep()
    users = house.control.add_users(14)
    found = [house.connect(f"{first_names[place]}@{companies[place % 7]}", user) for place, user in enumerate(users)]
    house.work()
    for user, allow in (("ines@oakline", False), ("sven@atlas-freight", False)):
        house.flows.exchange(house.consent(user, 1, allow=allow))
    house.control.inject("token", kind="status", status=400, body='{"error": "invalid_grant"}', count=1)
    house.flows.exchange(house.consent("tala@fernhill-studio", 1))
    house.callback.begin("breezedoc", house.link("omar@bluebird-foods"), {})
    house.callback.begin("breezedoc", house.link(hostile[:255]), {})
    house.queue.held.clear()
    client = house.flows.refresh.providers["breezedoc"]
    client.provider = house.profile = replace(client.provider, mass_refusal_count=2, mass_refusal_share=0.01)
    house.turn(seconds=70)
    house.control.replace_keys()
    for connection in found:
        house.make_refresh_due(connection.id)
    for _ in range(6):
        house.sweep()
        house.turn(seconds=40)
    house.clock.ahead = timedelta()


def _fill(house: House, many: int, chance: random.Random) -> None:
    """Write connections like the first, with the syncs and requests that they would have made."""
    now = house.clock()
    table = table_of(ConnectionRow)
    with house.store.writing() as tx:
        [model] = tx.sql.execute(select(table).limit(1)).mappings().all()
        rows = [_connection(dict(model), number, now, chance) for number in range(many)]
        tx.sql.execute(insert(table), rows)
        tx.sql.execute(insert(table_of(SyncRunRow)), _runs(rows, now, chance))
        tx.sql.execute(insert(table_of(RequestBatchRow)), _batches(rows, now, chance))


def _connection(model: dict[str, Any], number: int, now: datetime, chance: random.Random) -> dict[str, Any]:
    name = f"{first_names[number % 20]}.{number}@{chance.choice(companies)}"
    state = chance.choices(
        [
            ("active", None),
            ("active", "plan_required"),
            ("active", "sync_failing"),
            ("revoked", None),
            ("disconnected", None),
        ],
        [90, 4, 1, 3, 2],
    )[0]
    status, problem = state
    is_active = status == "active"
    return {
        **model,
        "id": UUID(int=chance.getrandbits(128)).hex,
        "user_id": name,
        "account_id": str(10_000 + number),
        "email": f"{name}.example",
        "status": status,
        "problem": problem,
        "revoked_reason": "access_revoked" if status == "revoked" else None,
        "revoked_at": now - timedelta(hours=5) if status == "revoked" else None,
        "created_at": now - timedelta(days=chance.uniform(1, 300)),
        "last_synced_at": now - timedelta(minutes=chance.uniform(1, 15)),
        "sync_due_at": now + timedelta(minutes=chance.uniform(1, 15)) if is_active else None,
        "refresh_due_at": now + timedelta(days=min(chance.expovariate(1 / 11), 60)) if is_active else None,
    }


def _runs(rows: Sequence[dict[str, Any]], now: datetime, chance: random.Random) -> list[dict[str, Any]]:
    found = []
    for place in range(hours * 12 * 6):
        at = now - timedelta(minutes=chance.uniform(0.1, hours * 60 - 2))
        is_bad = timedelta(hours=2.2) < now - at < timedelta(hours=2.9) and chance.random() < 0.35
        found.append(
            {
                "id": f"run-{place}",
                "connection_id": rows[place % len(rows)]["id"],
                "status": "failed" if is_bad or chance.random() < 0.005 else "completed",
                "depth": "usual",
                "counts": {},
                "started_at": at - timedelta(seconds=2),
                "finished_at": at,
                "requested": False,
            }
        )
    return found


def _batches(rows: Sequence[dict[str, Any]], now: datetime, chance: random.Random) -> list[dict[str, Any]]:
    found: list[Any] = []
    for place in range(hours * 12 * 6):
        at = now - timedelta(minutes=chance.uniform(0.1, hours * 60 - 2))
        is_bad = timedelta(hours=2.2) < now - at < timedelta(hours=2.9) and chance.random() < 0.35
        calls = [
            Request(at, rows[place % len(rows)]["id"], "GET", "/documents", 500 if is_bad else 200, 80)
            for _ in range(chance.randint(2, 6))
        ]
        found += pack(calls)
    return found


def _add_endpoints(house: House) -> None:
    """Add endpoints of webhooks: one that works, and one that fails, with an event that it did not take."""
    now = house.clock()
    works = Endpoint(
        id="w1",
        name="app.example.com",
        url="https://app.example.com/webhooks",
        types=("connection", "sync.failed"),
        secret=Sealed("v1:a"),
        created_at=now - timedelta(days=40),
        delivered_at=now - timedelta(seconds=50),
    )
    fails = replace(
        works,
        id="w2",
        name="crm.example.com",
        url="https://crm.example.com/hooks/breezesync",
        types=("*",),
        delivered_at=now - timedelta(hours=2),
        failing_since=now - timedelta(minutes=50),
        error="HTTP 500",
    )
    waits = Delivery(
        webhook_id=fails.id,
        key="c1",
        published_from=now - timedelta(minutes=50),
        waits_since=now - timedelta(minutes=50),
        due_at=now + timedelta(minutes=5),
        events_from=1,
        attempts=5,
        error="HTTP 500",
    )
    letter = replace(waits, key=letter_key("c0ffee5e2b9d4a6f8e7d6c5b4a392817"), due_at=None, dead_at=now)
    with house.store.writing() as tx:
        for endpoint in (works, fails):
            tx.webhooks.add(endpoint)
        for delivery in (waits, letter, end_trial(trial := begin_trial("w2", now, now), trial, Refused(500))):
            tx.webhooks.put_delivery(delivery)


def _fill_redis(house: House, redis_url: str) -> None:
    """Publish the events, and leave consumer groups, dead letters, processes, and token requests."""
    client: Any = redis.Redis.from_url(redis_url, decode_responses=True)
    now = house.clock()
    with house.store.writing() as tx:
        events = table_of(EventRow)
        tx.sql.execute(update(events).values(published_at=events.c.created_at))
    freshen(house.store)
    for number in range(40):
        client.xadd("breezesync:events", {"event": str(number)})
        client.xadd("breezesync:records", {"event": str(number)})
    client.xgroup_create("breezesync:events", "crm", "0")
    client.xgroup_create("breezesync:records", "search-index", "0")
    client.xreadgroup("crm", "crm-1", {"breezesync:events": ">"}, count=40)
    client.xack("breezesync:events", "crm", *[entry for entry, _ in client.xrange("breezesync:events")])
    client.xreadgroup("search-index", "index-1", {"breezesync:records": ">"}, count=28)
    with house.store.reading() as tx:
        ids = [row[0] for row in tx.sql.execute(text("SELECT id FROM connection WHERE problem = 'held' LIMIT 2"))]
    _bury(client, "sync", "carry_out_sync", {"connection_id": ids[0]}, now - timedelta(minutes=26), causes[0])
    _bury(client, "refresh", "refresh_token", {"connection_id": ids[1]}, now - timedelta(hours=3), causes[1])
    client.rpush("dramatiq:sync", *[f"waiting-{number}" for number in range(6)])
    client.close()


def freshen(store: Store) -> None:
    """Make what changes by the second as it would be now: the processes, the newest events, the budget, a trial."""
    with store.writing() as tx:
        now, events = tx.overview.time(), table_of(EventRow)
        for role, number in (("web", 2), ("worker", 3), ("scheduler", 2), ("operator", 1)):
            for place in range(number):
                tx.processes.report(Process(f"{role}-host-{place + 1}-{100 + place}", role, "0.1.0", now, 0.01 * place))
        tx.processes.report(Process("worker-host-9-88", "worker", "0.1.0", now - timedelta(minutes=20)))
        last = tx.sql.execute(text("SELECT max(position) FROM event")).scalar_one()
        newest = update(events).where(events.c.position > last - 2)
        tx.sql.execute(newest.values(published_at=None, waits_since=now - timedelta(seconds=4)))
        tx.sql.execute(update(table_of(HoldRow)).values(next_trial_at=now + timedelta(minutes=2)))
        counts = {str(second_of(now) - 5 * place): 2 for place in range(8)}
        tx.sql.execute(update(table_of(PaceRow)).values(counts=counts, paused_until=None))


causes = (
    'psycopg.errors.DiskFull: could not extend file "base/16384/24601": No space left on device',
    "KeyError: 'expires_in' while reading <token response>; see models/oauth/token_response.py",
)


def _bury(client: Any, queue: str, actor: str, kwargs: dict[str, Any], at: datetime, cause: str) -> None:
    options = {"traceback": f"Traceback (most recent call last):\n  …\n{cause}", "retries": 3}
    message: dramatiq.Message[Any] = dramatiq.Message(
        queue_name=queue, actor_name=actor, args=(), kwargs=kwargs, options=options
    )
    client.hset(f"dramatiq:{queue}.XQ.msgs", message.message_id, message.encode())
    client.zadd(f"dramatiq:{queue}.XQ", {message.message_id: at.timestamp() * 1000})
