"""Events on their way to the stream: in order, at least once, whichever publisher dies, stands still or is refused."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from sqlalchemy import text

from models.errors import RedisUnavailable
from models.messaging.events import About, ConnectionRefreshed, Fact, RecordChanged, StreamSettings, SyncFailed
from scheduler.prune import Prune
from tests.databases import both_databases
from tests.harness import House
from tests.servers import Valkey
from worker.queue.publish import PublishEvents, publish_lease

streams: Any = {"events": StreamSettings("e", 1_000_000), "records": StreamSettings("r", 1_000_000)}


@pytest.fixture
def application(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def publisher(house: House, client: Any, settings: Any = streams) -> PublishEvents:
    return PublishEvents(house.store, client, settings, house.clock)


def append(house: House, count: int, connection_id: str = "c1", fact: Fact | None = None) -> None:
    facts = [fact or ConnectionRefreshed(number, None) for number in range(count)]
    with house.store.writing() as tx:
        tx.outbox.append(About("breezedoc", "ada", connection_id), facts, house.clock())


def heard(application: Any, key: str = "e", connection_id: str = "c1") -> list[tuple[str, int]]:
    entries = [fields for _, fields in application.xrange(key) if fields["connection_id"] == connection_id]
    return [(fields["id"], int(fields["sequence"])) for fields in entries]


def assert_in_order(told: list[tuple[str, int]], count: int) -> None:
    """First appearances count 1, 2, 3 …; a repeat has the id it had."""
    firsts = list(dict.fromkeys(told))
    assert [sequence for _, sequence in firsts] == list(range(1, count + 1))
    assert len({event_id for event_id, _ in told}) == count


class StandsStill:
    """A Redis client whose process is stopped between reading its batch and adding it, until `go` is set."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.reached, self.go = threading.Event(), threading.Event()

    def pipeline(self, **options: Any) -> Any:
        self.reached.set()
        assert self.go.wait(60)
        return self.client.pipeline(**options)


def begin(publish: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=publish)
    thread.start()
    return thread


@both_databases
def test_several_publishers_at_once_publish_each_event_once_and_in_order(house: House, application: Any) -> None:
    for connection in ("c1", "c2", "c3"):
        append(house, 700, connection)
    threads = [begin(publisher(house, application)) for _ in range(4)]
    for thread in threads:
        thread.join(60)
    publisher(house, application)()
    for connection in ("c1", "c2", "c3"):
        told = heard(application, connection_id=connection)
        assert len(told) == 700
        assert_in_order(told, 700)


@both_databases
@pytest.mark.parametrize("first", [0, 1])
def test_publishers_that_stood_still_past_their_lease_repeat_events_and_reorder_none(
    house: House, application: Any, first: int
) -> None:
    paused = [StandsStill(application), StandsStill(application)]
    threads = []
    for each in paused:
        append(house, 5)
        threads.append(begin(publisher(house, each)))
        assert each.reached.wait(60)
        house.clock.turn(publish_lease)
    append(house, 5)
    for which in (first, 1 - first):
        paused[which].go.set()
        threads[which].join(60)
        append(house, 1)
        house.clock.turn(publish_lease)
        publisher(house, application)()
    told = heard(application)
    assert_in_order(told, 17)
    assert len(told) > 17


@both_databases
@pytest.mark.parametrize("before", ["released it", "died with it"])
def test_a_clock_that_is_set_back_keeps_no_event_from_leaving(house: House, application: Any, before: str) -> None:
    append(house, 1)
    publisher(house, application)()
    if before == "died with it":
        append(house, 1)
        with house.store.writing() as tx:
            assert tx.outbox.lease("one that died", house.clock(), house.clock() + publish_lease)
    house.clock.turn(timedelta(minutes=-10))
    append(house, 1)
    publisher(house, application)()
    assert_in_order(heard(application), 3 if before == "died with it" else 2)


@both_databases
def test_a_publisher_that_died_holds_up_the_others_no_longer_than_its_lease(house: House, application: Any) -> None:
    append(house, 3)
    with house.store.writing() as tx:
        assert tx.outbox.lease("one that died", house.clock(), house.clock() + publish_lease)
    publisher(house, application)()
    assert heard(application) == []
    house.clock.turn(publish_lease)
    publisher(house, application)()
    assert_in_order(heard(application), 3)


def test_a_redis_that_is_full_takes_all_of_a_batch_or_nothing(house: House, own_valkey: Valkey) -> None:
    with redis.Redis.from_url(own_valkey.url, decode_responses=True) as application:
        used = int(application.info("memory")["used_memory"])
        application.config_set("maxmemory", used + 5_000_000)
        append(house, 2)
        append(house, 1, fact=SyncFailed("r", "provider_unavailable", "x" * 3_000_000))
        append(house, 2)
        with pytest.raises(RedisUnavailable):
            publisher(house, application)()
        append(house, 1)
        with pytest.raises(RedisUnavailable):
            publisher(house, application)()
        assert heard(application) == []
        application.config_set("maxmemory", 0)
        publisher(house, application)()
        assert_in_order(heard(application), 6)


def test_events_wait_while_redis_is_away_and_leave_when_it_is_back(house: House, own_valkey: Valkey) -> None:
    with redis.Redis.from_url(own_valkey.url, decode_responses=True) as application:
        append(house, 3)
        publisher(house, application)()
        own_valkey.kill()
        append(house, 3)
        with pytest.raises(RedisUnavailable):
            publisher(house, application)()
        with house.store.reading() as tx:
            assert tx.outbox.backlog()[0] == 3
        own_valkey.start()
        publisher(house, application)()
        assert_in_order(heard(application), 6)


@pytest.mark.no_cover  # runs the same few lines very often
def test_a_stream_whose_consumer_is_gone_stays_at_its_length(house: House, application: Any) -> None:
    short = {"events": StreamSettings("e", 200), "records": StreamSettings("r", 500)}
    application.xgroup_create("e", "gone", id="0", mkstream=True)
    append(house, 3_000)
    append(house, 3_000, fact=RecordChanged("created", "document", "1", ("id",), initial=True))
    publisher(house, application, short)()
    # An approximate length is cut by whole nodes of the stream, of up to 100 entries each.
    assert 200 <= application.xlen("e") <= 300
    assert 500 <= application.xlen("r") <= 600
    assert heard(application)[-1][1] == 3_000


def test_a_replay_sends_the_same_events_once_more_with_their_ids(house: House, application: Any) -> None:
    append(house, 3)
    house.clock.turn(timedelta(hours=1))
    since = house.clock()
    append(house, 3)
    publisher(house, application)()
    before = heard(application)
    with house.store.writing() as tx:
        assert tx.outbox.republish_since(since, house.clock()) == 3
    publisher(house, application)()
    assert heard(application) == before + before[3:]


def test_a_replayed_event_counts_as_waiting_since_the_replay(house: House, application: Any) -> None:
    append(house, 1)
    publisher(house, application)()
    house.clock.turn(timedelta(days=3))
    asked_at = house.clock()
    with house.store.writing() as tx:
        tx.outbox.republish_since(asked_at - timedelta(days=5), asked_at)
        _, since = tx.outbox.backlog()
    assert since == asked_at


def test_events_that_have_left_are_forgotten_after_their_time_and_sequences_go_on(
    house: House, application: Any
) -> None:
    append(house, 3)
    publisher(house, application)()
    append(house, 2)
    house.clock.turn(timedelta(days=31))
    append(house, 1)
    Prune(house.store, house.clock)()
    with house.store.reading() as tx:
        kept = [event.sequence for _, event in tx.outbox.read()]
    assert kept == [4, 5, 6]


def test_old_runs_requests_and_failed_authorizations_are_deleted_but_the_newest_run_and_decisions_stay(
    house: House,
) -> None:
    connection = house.connect("ada", 1)
    house.work()
    for _ in range(3):
        house.turn(minutes=1)
        house.flows.sync(connection.id)
    house.consent("ada", 1, allow=False)
    house.turn(days=31)
    Prune(house.store, house.clock)()
    counts = {"sync_run": 1, "decision": 1, "request_log": 0, "authorization": 1}
    with house.store.reading() as tx:
        found = {name: tx.sql.execute(text(f'SELECT count(*) FROM "{name}"')).scalar_one() for name in counts}
        assert tx.runs.newest(connection.id) is not None
    assert found == counts


def test_an_entry_says_what_its_document_says(house: House, application: Any) -> None:
    append(house, 1)
    publisher(house, application)()
    [(_, fields)] = application.xrange("e")
    document = json.loads(fields["event"])
    assert set(fields) == {"id", "type", "provider", "user_id", "connection_id", "sequence", "event"}
    assert (document["id"], document["sequence"]) == (fields["id"], fields["sequence"])


def test_a_stream_of_another_type_takes_nothing_and_keeps_no_one_waiting(house: House, application: Any) -> None:
    """MULTI goes on past a command that fails as it runs: what was added must count as added."""
    application.rpush("e", "something else")
    append(house, 600)
    append(house, 5, fact=RecordChanged("created", "document", "1", ("id",), initial=True))
    for _ in range(3):
        with pytest.raises(RedisUnavailable, match="e in Redis is a list, not a stream"):
            publisher(house, application)()
    assert application.xlen("r") == 5
    application.delete("e")
    publisher(house, application)()
    assert_in_order(heard(application), 600)
    assert (application.xlen("e"), application.xlen("r")) == (600, 5)


class RefusesAfter:
    """A client whose MULTI adds the first `count` entries; the rest meet a key of another type as they run."""

    def __init__(self, client: Any, count: int) -> None:
        self.client, self.count = client, count

    def type(self, key: str) -> Any:
        return self.client.type(key)

    def pipeline(self, **options: Any) -> Any:
        pipeline = self.client.pipeline(**options)
        xadd, called = pipeline.xadd, iter(range(1_000))

        def add(key: str, *arguments: Any, **more: Any) -> Any:
            return xadd(key if next(called) < self.count else "a list", *arguments, **more)

        pipeline.xadd = add
        return pipeline


def test_what_was_added_before_an_error_is_not_added_again(house: House, application: Any) -> None:
    application.rpush("a list", "something else")
    append(house, 5)
    with pytest.raises(RedisUnavailable):
        publisher(house, RefusesAfter(application, 3))()
    assert application.xlen("e") == 3
    publisher(house, application)()
    assert_in_order(heard(application), 5)
    assert application.xlen("e") == 5
