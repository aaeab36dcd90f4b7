"""Commands from the stream, through due times, to the work: whoever reads them, dies with them or finds them twice."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis

from models.errors import RedisUnavailable, StoreUnavailable
from scheduler.command_stream import Commands, group, quiet_rounds
from scheduler.sweep import Sweep
from tests.databases import both_databases
from tests.harness import House
from tests.servers import Valkey, wait_until

stream = "breezesync:commands"
no_wait = timedelta(milliseconds=1)


@pytest.fixture
def application(redis_url: str) -> Iterator[Any]:
    """Redis, as an application holds it."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def raw(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def reader(house: House, raw: redis.Redis, **options: Any) -> Commands:
    sweep = Sweep(house.store, house.queue, house.clock, {"breezedoc": house.profile.token_requests_per_minute})
    return Commands(house.store, raw, stream, sweep, house.clock, **options)


def read_all(commands: Commands) -> int:
    """Until nothing is left; the first pass may have made the group."""
    counts = [commands(no_wait), commands(no_wait)]
    while counts[-1]:
        counts.append(commands(no_wait))
    return sum(counts)


def pending(application: Any) -> int:
    return int(application.xpending(stream, group)["pending"])


def synced(house: House) -> int:
    return len(house.told("sync.completed"))


def test_a_sync_by_connection_reads_it_once(house: House, application: Any, raw: redis.Redis) -> None:
    connection = house.connect("ada", 1)
    house.work()
    application.xadd(stream, {"type": "sync", "connection_id": connection.id})
    assert read_all(reader(house, raw)) == 1
    house.work()
    assert synced(house) == 2
    assert application.xlen(stream) == 0


def test_a_sync_by_user_reads_each_active_connection_of_that_user(
    house: House, application: Any, raw: redis.Redis
) -> None:
    mine = [house.connect("ada", 1), house.connect("ada", 2)]
    house.connect("linus", 1)
    house.work()
    before = synced(house)
    application.xadd(stream, {"type": "sync", "user_id": "ada", "provider": "breezedoc"})
    read_all(reader(house, raw))
    house.work()
    assert synced(house) == before + len(mine)


def test_a_sync_asked_for_while_one_runs_makes_it_run_once_more(
    house: House, application: Any, raw: redis.Redis
) -> None:
    connection = house.connect("ada", 1)
    house.control.inject(on="api", kind="status", status=503, retry_after=30)
    house.work()
    assert synced(house) == 0
    application.xadd(stream, {"type": "sync", "connection_id": connection.id})
    application.xadd(stream, {"type": "sync", "connection_id": connection.id})
    read_all(reader(house, raw))
    for _ in range(4):
        house.turn(seconds=61)
        house.sweep()
    assert synced(house) == 2


def test_a_refresh_is_due_at_once_and_presents_the_token_once(house: House, application: Any, raw: redis.Redis) -> None:
    connection = house.connect("ada", 1)
    house.work()
    application.xadd(stream, {"type": "refresh", "connection_id": connection.id})
    read_all(reader(house, raw))
    house.work()
    assert house.connection(connection.id).generation == 2
    assert house.presentations() == 1


def test_a_disconnect_erases_tokens_and_records_where_it_says_so(
    house: House, application: Any, raw: redis.Redis
) -> None:
    kept, erased = house.connect("ada", 1), house.connect("linus", 2)
    house.work()
    application.xadd(stream, {"type": "disconnect", "connection_id": kept.id})
    application.xadd(stream, {"type": "disconnect", "user_id": "linus", "erase": "true"})
    read_all(reader(house, raw))
    house.work()
    with house.store.reading() as tx:
        counts = [tx.records.count(each.id) for each in (kept, erased)]
    assert bool(counts[0])
    assert counts[1] == {}
    assert {house.connection(each.id).status.value for each in (kept, erased)} == {"disconnected"}


def test_a_disconnect_that_was_written_before_the_user_authorized_again_comes_too_late(
    house: House, application: Any, raw: redis.Redis
) -> None:
    connection = house.connect("ada", 1)
    house.work()
    application.xadd(stream, {"type": "disconnect", "connection_id": connection.id, "erase": "true"})
    house.turn(hours=1)
    house.connect("ada", 1)
    assert read_all(reader(house, raw)) == 1
    house.work()
    assert house.connection(connection.id).status == "active"
    assert house.decisions(connection.id)[-1].verb == "disconnect.superseded"
    with house.store.reading() as tx:
        assert tx.records.count(connection.id) != {}
        assert tx.connections.pending_disconnect(connection.id) is None


class AwayOnceCommitted:
    """Redis, which goes away just before an entry is acknowledged."""

    def __init__(self, redis: Any) -> None:
        self.redis = redis

    def __getattr__(self, name: str) -> Any:
        return getattr(self.redis, name)

    def pipeline(self, **options: Any) -> Any:
        raise redis.ConnectionError("it is away")


@pytest.mark.parametrize("named_by", ["connection_id", "user_id"])
def test_a_disconnect_that_is_read_twice_ends_nothing_that_was_authorized_in_between(
    house: House, application: Any, raw: redis.Redis, named_by: str
) -> None:
    connection = house.connect("ada", 1)
    house.work()
    dies = reader(house, raw)
    read_all(dies)
    application.xadd(stream, {"type": "disconnect", named_by: connection.id if named_by == "connection_id" else "ada"})
    dies.redis = AwayOnceCommitted(raw)
    with pytest.raises(RedisUnavailable):
        dies(no_wait)
    house.sweep()
    assert house.connection(connection.id).status == "disconnected"
    again, another = house.connect("ada", 1), house.connect("ada", 2)
    assert read_all(reader(house, raw, idle=timedelta())) == 1
    house.work()
    assert [house.connection(each.id).status.value for each in (again, another)] == ["active", "active"]
    assert (again.id, len(house.told("connection.disconnected")), pending(application)) == (connection.id, 1, 0)
    application.xadd(stream, {"type": "disconnect", "user_id": "ada"})
    read_all(reader(house, raw))
    house.work()
    assert {house.connection(each.id).status.value for each in (again, another)} == {"disconnected"}, "it is another"


def test_a_refresh_that_is_read_twice_presents_the_token_once(house: House, application: Any, raw: redis.Redis) -> None:
    connection = house.connect("ada", 1)
    house.work()
    dies = reader(house, raw)
    read_all(dies)
    application.xadd(stream, {"type": "refresh", "connection_id": connection.id})
    dies.redis = AwayOnceCommitted(raw)
    with pytest.raises(RedisUnavailable):
        dies(no_wait)
    house.sweep()
    house.turn(seconds=61)
    assert read_all(reader(house, raw, idle=timedelta())) == 1
    house.work()
    assert (house.connection(connection.id).generation, pending(application)) == (2, 0)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"type": "explode", "connection_id": "c"}, "expected the field type"),
        ({"type": "sync", "connection_id": "nobody's"}, "no such connection"),
        ({"type": "sync", "user_id": "nobody"}, "no such connection"),
        ({b"type": b"sync", b"user_id": b"\xff"}, "not UTF-8"),
        ({"type": "disconnect", "connection_id": "c" * 300}, "255"),
    ],
)
def test_what_can_not_be_done_is_moved_away_with_its_reason_and_blocks_nothing(
    house: House, application: Any, raw: redis.Redis, fields: dict[Any, Any], reason: str
) -> None:
    connection = house.connect("ada", 1)
    house.work()
    entry_id = application.xadd(stream, fields)
    application.xadd(stream, {"type": "sync", "connection_id": connection.id})
    assert read_all(reader(house, raw)) == 2
    house.work()
    rejections: Any = raw.xrange(f"{stream}:rejected")
    [(_, rejected)] = rejections
    assert reason in rejected[b"reason"].decode()
    assert rejected[b"entry_id"].decode() == entry_id
    assert {"type", "reason", "entry_id"} < {name.decode() for name in rejected}
    assert (synced(house), pending(application), application.xlen(stream)) == (2, 0, 0)


def test_a_sync_of_a_revoked_connection_is_refused_with_what_would_help(
    house: House, application: Any, raw: redis.Redis
) -> None:
    connection = house.connect("ada", 1)
    house.control.revoke_user(1)
    house.make_refresh_due(connection.id)
    house.flows.refresh(connection.id)
    application.xadd(stream, {"type": "sync", "connection_id": connection.id})
    read_all(reader(house, raw))
    [(_, rejected)] = application.xrange(f"{stream}:rejected")
    assert rejected["reason"] == "the connection is revoked: the user has to authorize again"


def test_what_a_dead_reader_held_is_taken_over(house: House, application: Any, raw: redis.Redis) -> None:
    connection = house.connect("ada", 1)
    house.work()
    read_all(reader(house, raw))
    application.xadd(stream, {"type": "sync", "connection_id": connection.id})
    held = application.xreadgroup(group, "one that died", {stream: ">"})
    assert held
    assert pending(application) == 1
    assert read_all(reader(house, raw)) == 0, "it may still be at work"
    assert read_all(reader(house, raw, idle=timedelta())) == 1
    house.work()
    assert (synced(house), pending(application)) == (2, 0)


def test_a_reader_that_hears_nothing_seldom_looks_for_what_others_left(
    house: House, application: Any, raw: redis.Redis
) -> None:
    commands = reader(house, raw)
    assert commands(no_wait) == 0, "it makes the group"
    application.config_resetstat()
    assert [commands(no_wait) for _ in range(2 * quiet_rounds)] == [0] * 2 * quiet_rounds
    counts = application.info("commandstats")
    assert counts["cmdstat_xautoclaim"]["calls"] == 2
    assert counts["cmdstat_xreadgroup"]["calls"] == 2 + 2 * quiet_rounds


def test_a_command_survives_that_redis_is_emptied_once_it_was_read(
    house: House, application: Any, raw: redis.Redis
) -> None:
    connection = house.connect("ada", 1)
    house.work()
    application.xadd(stream, {"type": "sync", "connection_id": connection.id})
    read_all(reader(house, raw))
    house.queue.held.clear()
    application.flushall()
    house.queue.emptied = True
    house.sweep()
    assert synced(house) == 2


def test_the_group_is_made_again_after_redis_was_emptied(house: House, application: Any, raw: redis.Redis) -> None:
    connection = house.connect("ada", 1)
    house.work()
    commands = reader(house, raw)
    read_all(commands)
    application.flushall()
    application.xadd(stream, {"type": "sync", "connection_id": connection.id})
    assert read_all(commands) == 1
    house.work()
    assert synced(house) == 2


def test_nothing_is_acknowledged_while_the_database_is_away(house: House, application: Any, raw: redis.Redis) -> None:
    connection = house.connect("ada", 1)
    house.work()
    commands = reader(house, raw)
    read_all(commands)
    application.xadd(stream, {"type": "sync", "connection_id": connection.id})
    stored, commands.store = commands.store, AwayStore()  # type: ignore[assignment]
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            commands(no_wait)
    assert pending(application) == 1
    commands.store = stored
    assert read_all(commands) == 1
    house.work()
    assert (synced(house), pending(application)) == (2, 0)


class AwayStore:
    """A database that does not answer."""

    def writing(self) -> Any:
        raise StoreUnavailable("the database does not answer")


def test_while_redis_is_away_a_reader_says_so_and_goes_on_afterwards(house: House, own_valkey: Valkey) -> None:
    connection = house.connect("ada", 1)
    house.work()
    with redis.Redis.from_url(own_valkey.url, socket_timeout=5) as raw:
        commands = reader(house, raw)
        read_all(commands)
        raw.xadd(stream, {"type": "sync", "connection_id": connection.id})
        own_valkey.stop()
        with pytest.raises(RedisUnavailable):
            commands(no_wait)
        own_valkey.start()
        assert read_all(commands) == 1
    house.work()
    assert synced(house) == 2


@both_databases
def test_a_waiting_reader_hears_a_command_at_once_and_two_readers_share_the_work(
    house: House, application: Any, raw: redis.Redis
) -> None:
    connections = [house.connect(f"user {n}", 1) for n in range(3)]
    house.work()
    both = [reader(house, raw), reader(house, raw)]
    read_all(both[0])
    counts = [0, 0]

    def listen(which: int) -> None:
        while sum(counts) < 30:
            counts[which] += both[which](timedelta(milliseconds=200))

    threads = [threading.Thread(target=listen, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for n in range(30):
        application.xadd(stream, {"type": "sync", "connection_id": connections[n % 3].id})
    for thread in threads:
        thread.join(60)
    assert sum(counts) == 30
    wait_until(lambda: pending(application) == 0, "nothing is pending")
    assert application.xlen(stream) == 0


def test_a_reader_that_leaves_takes_its_name_off_the_group(house: House, application: Any, raw: redis.Redis) -> None:
    commands = reader(house, raw)
    read_all(commands)
    assert [each["name"] for each in application.xinfo_consumers(stream, group)] == [commands.name]
    commands.leave()
    assert application.xinfo_consumers(stream, group) == []


def test_a_refused_command_that_can_not_be_written_down_is_not_dropped(
    house: House, application: Any, raw: redis.Redis
) -> None:
    application.rpush(f"{stream}:rejected", "something else")
    application.xadd(stream, {"type": "nonsense"})
    commands = reader(house, raw)
    commands(no_wait)
    with pytest.raises(RedisUnavailable, match="breezesync:commands:rejected in Redis is a list, not a stream"):
        commands(no_wait)
    assert (application.xlen(stream), pending(application)) == (1, 1)
    application.delete(f"{stream}:rejected")
    assert read_all(commands) == 1
    assert (application.xlen(stream), application.xlen(f"{stream}:rejected")) == (0, 1)
