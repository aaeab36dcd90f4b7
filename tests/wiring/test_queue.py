"""How messages reach Redis: many at once, in a few round trips, as Dramatiq itself would have sent them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from dramatiq.brokers.redis import RedisBroker

from config.wiring import build_broker
from models.crypto.secrets import Secret
from models.errors import RedisUnavailable
from models.messaging import messages
from models.messaging.messages import Message, find_fault
from models.queue import MessageQueue, marker_key, queue_names
from tests.servers import Valkey


@dataclass
class Trips:
    """Counts what connections send: a pipeline's commands leave together. After `most` the server goes away."""

    sent: int = 0
    most: int | None = None
    server: Any = None

    def watch(self, client: redis.Redis) -> None:
        """Watch connections that `client` opens from now on."""
        client.connection_pool.disconnect()
        client.connection_pool.reset()
        kind: Any = client.connection_pool.connection_class
        trips = self

        class Counting(kind):  # type: ignore[misc]
            def send_packed_command(self, command: Any, check_health: bool = True) -> Any:
                trips.note()
                return super().send_packed_command(command, check_health)

        client.connection_pool.connection_class = Counting

    def note(self) -> None:
        self.sent += 1
        if self.sent == self.most:
            self.server.kill()


def build(url: str) -> tuple[RedisBroker, MessageQueue]:
    settings: Any = SimpleNamespace(redis_url=Secret(url))
    broker = build_broker(settings)
    return broker, MessageQueue(broker, redis.Redis.from_url(url, decode_responses=True))


@pytest.fixture
def queue(redis_url: str) -> Iterator[MessageQueue]:
    broker, queue = build(redis_url)
    yield queue
    broker.client.close()
    queue.client.close()


def taken(queue: MessageQueue, name: str) -> list[dict[str, Any]]:
    """The messages of a queue, in its order."""
    keys: Any = queue.client.lrange(f"dramatiq:{name}", 0, -1)
    texts: Any = queue.client.hgetall(f"dramatiq:{name}.msgs")
    assert set(keys) == set(texts)
    for key in keys:
        assert find_fault(texts[key].encode(), name, key) is None
    return [json.loads(texts[key]) for key in keys]


def due(count: int) -> list[Message]:
    return [messages.read_connection(f"c{number}") for number in range(count)]


def watch(queue: MessageQueue) -> Trips:
    """Count the round trips of a queue from now on, once both of its clients are connected and its script is known."""
    queue.was_emptied()
    trips = Trips()
    for client in (queue.broker.client, queue.client):
        trips.watch(client)
        client.ping()
    trips.sent = 0
    return trips


@pytest.mark.parametrize(("count", "trips"), [(0, 0), (1, 1), (500, 1), (1_000, 2), (1_001, 3)])
def test_a_thousand_messages_leave_in_two_round_trips_and_in_their_order(
    queue: MessageQueue, count: int, trips: int
) -> None:
    counted = watch(queue)
    queue.send_all(due(count))
    assert counted.sent == trips
    assert [message["kwargs"]["connection_id"] for message in taken(queue, "reading")] == [
        f"c{number}" for number in range(count)
    ]


def test_each_of_a_mixed_batch_is_in_its_queue_as_dramatiq_would_have_sent_it(queue: MessageQueue) -> None:
    batch = [messages.exchange_code("a1"), messages.carry_out_refresh("c1"), messages.probe_client("p", "c")] * 2
    queue.send_all(batch)
    together = {name: taken(queue, name) for name in ("exchange", "refresh", "control")}
    queue.client.flushall()
    for message in batch:
        queue.send(message)
    one_by_one = {name: taken(queue, name) for name in together}
    for text in (text for sent in (together, one_by_one) for queued in sent.values() for text in queued):
        assert text["options"].keys() == {"redis_message_id"}
        del text["options"], text["message_id"], text["message_timestamp"]
    assert together == one_by_one


def test_the_lengths_of_all_queues_are_one_round_trip(queue: MessageQueue) -> None:
    queue.send_all([*due(3), messages.carry_out_refresh("c1")])
    counted = watch(queue)
    assert queue.count_waiting() == dict.fromkeys(queue_names, 0) | {"reading": 3, "refresh": 1}
    assert counted.sent == 1


def test_an_emptied_redis_is_noticed_once_in_one_round_trip_a_look(queue: MessageQueue) -> None:
    counted = watch(queue)
    assert [queue.was_emptied() for _ in range(3)] == [False] * 3
    assert counted.sent == 3
    queue.client.flushall()
    other = MessageQueue(queue.broker, queue.client)
    assert [queue.was_emptied(), other.was_emptied(), queue.was_emptied()] == [True, False, False]


def test_a_restarted_redis_counts_as_emptied_also_if_its_memory_came_back(own_valkey: Valkey) -> None:
    broker, queue = build(own_valkey.url)
    assert [queue.was_emptied(), queue.was_emptied()] == [True, False]
    own_valkey.stop()
    with pytest.raises(RedisUnavailable):
        queue.was_emptied()
    own_valkey.start()
    assert queue.client.exists(marker_key)
    assert [queue.was_emptied(), queue.was_emptied()] == [True, False]
    broker.client.close()
    queue.client.close()


def test_a_redis_that_goes_away_in_the_middle_is_an_error_and_what_left_is_whole(own_valkey: Valkey) -> None:
    broker, queue = build(own_valkey.url)
    trips = Trips(server=own_valkey)
    trips.watch(broker.client)
    broker.client.ping()
    trips.most = trips.sent + 2
    with pytest.raises(RedisUnavailable):
        queue.send_all(due(2_000))
    own_valkey.start()
    assert len(taken(queue, "reading")) == 500
    broker.client.close()
    queue.client.close()


def test_a_message_is_sent_in_one_round_trip(queue: MessageQueue) -> None:
    queue.send(messages.exchange_code("a0"))  # which connects, and loads the script
    trips = Trips()
    trips.watch(queue.broker.client)
    queue.broker.client.ping()
    before = trips.sent
    queue.send(messages.exchange_code("a1"))
    assert trips.sent == before + 1
    assert [each["kwargs"]["authorization_id"] for each in taken(queue, "exchange")] == ["a0", "a1"]


def test_a_message_is_sent_though_the_server_forgot_the_script(queue: MessageQueue) -> None:
    queue.send(messages.exchange_code("a0"))
    queue.broker.client.script_flush()
    queue.send(messages.exchange_code("a1"))
    assert len(taken(queue, "exchange")) == 2
