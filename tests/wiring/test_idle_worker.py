"""A worker with nothing to do asks for little, and a message that arrives then does not wait for it."""

import threading
from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import ConnectionClosed

from tests.servers import Valkey, wait_until
from worker.queue.broker import Broker, fetches_a_heartbeat

moment_ms = 20
"""What a consumer waits for in most of these tests comes so soon, or as soon as it can."""


@pytest.fixture
def server(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client
        client.execute_command("ACL", "SETUSER", "default", "on", "nopass", "~*", "&*", "+@all")


def send(broker: RedisBroker, subject: str, delay: int | None = None) -> None:
    message: dramatiq.Message[Any] = dramatiq.Message(
        queue_name="control", actor_name="revoke_grant", args=(), kwargs={"revocation_id": subject}, options={}
    )
    broker.enqueue(message, delay=delay)


def calls(server: Any) -> dict[str, int]:
    """How often a consumer has waited and fetched since the last call; a script's own commands don't count."""
    counts = {name: int(stats["calls"]) for name, stats in server.info("commandstats").items()}
    server.config_resetstat()
    return {"waits": counts.get("cmdstat_blmove", 0), "fetches": counts.get("cmdstat_evalsha", 0)}


def consume(broker: Broker, prefetch: int = 2, timeout: int = moment_ms) -> Any:
    """A consumer that has found its queue empty once."""
    consumer = broker.consume("control", prefetch, timeout)
    assert next(consumer) is None
    return consumer


def test_an_idle_consumer_waits_at_the_server_and_fetches_nothing(redis_url: str, server: Any) -> None:
    broker = Broker(url=redis_url, reclaim_every=moment_ms / 1000)
    consumer = consume(broker)
    calls(server)
    assert [next(consumer) for _ in range(5)] == [None] * 5
    assert calls(server) == {"waits": 5, "fetches": 0}


def test_an_idle_consumer_fetches_often_enough_to_count_as_alive_and_to_find_what_dead_workers_had(
    redis_url: str, server: Any
) -> None:
    broker = Broker(url=redis_url, heartbeat_timeout=fetches_a_heartbeat * 150)
    consumer = consume(broker)
    calls(server)
    while calls(server)["fetches"] == 0:
        assert next(consumer) is None
    assert [next(consumer) for _ in range(4)] == [None] * 4
    assert calls(server) == {"waits": 4, "fetches": 4}


class Noting(Broker):
    """It waits for nothing, and notes for how many seconds it would have."""

    waited: list[float]

    def wait(self, queue_name: str, seconds: float) -> bool | None:
        self.waited.append(seconds)
        return False


@pytest.mark.parametrize(
    ("queue", "delay", "longest", "shortest"),
    [
        pytest.param("control", None, 20.0, 5.0, id="nothing in hand: until it is to fetch"),
        pytest.param("control.DQ", 60_000, 0.02, 0.0, id="a delayed message in hand: until it is looked at again"),
    ],
)
def test_a_consumer_waits_until_there_is_something_to_do(
    redis_url: str, queue: str, delay: int | None, longest: float, shortest: float
) -> None:
    broker = Noting(url=redis_url, heartbeat_timeout=60_000)
    broker.waited = []
    if delay is not None:
        send(broker, "r1", delay)
    consumer = broker.consume(queue, 2, moment_ms)
    assert [next(consumer) is None for _ in range(4)] == [delay is None, True, True, True]
    assert broker.waited
    assert all(shortest < seconds <= longest for seconds in broker.waited)


def test_a_worker_that_shuts_down_ends_every_wait_and_those_that_follow_are_short(redis_url: str, server: Any) -> None:
    broker = Broker(client=redis.Redis.from_url(redis_url, socket_timeout=None))
    heard: list[bool | None] = []
    thread = threading.Thread(target=lambda: heard.append(broker.wait("control", 600)), daemon=True)
    thread.start()
    wait_until(lambda: int(server.info("clients")["blocked_clients"]) == 1, "the consumer waits")
    broker.emit_before("worker_shutdown", None)
    thread.join(30)
    assert heard == [False]
    assert broker.wait("control", 600) is False
    send(broker, "r1")
    assert broker.wait("control", 600) is True


def test_a_message_that_arrives_ends_the_wait(redis_url: str, server: Any) -> None:
    broker, heard = Broker(url=redis_url), []
    consumer = consume(broker, timeout=60_000)
    thread = threading.Thread(target=lambda: heard.append(next(consumer)))
    thread.start()
    wait_until(lambda: int(server.info("clients")["blocked_clients"]) == 1, "the consumer waits")
    send(RedisBroker(url=redis_url), "r1")  # type: ignore[no-untyped-call]
    thread.join(30)
    assert [message.kwargs for message in heard] == [{"revocation_id": "r1"}]


def test_several_idle_workers_share_the_messages_and_keep_their_order(redis_url: str, server: Any) -> None:
    brokers = [Broker(url=redis_url) for _ in range(3)]
    consumers = [consume(broker, prefetch=1, timeout=60_000) for broker in brokers]
    heard: list[str] = []

    def hear(consumer: Any) -> None:
        while (message := next(consumer)) is None:
            continue
        heard.append(message.kwargs["revocation_id"])

    threads = [threading.Thread(target=hear, args=(consumer,), daemon=True) for consumer in consumers]
    for thread in threads:
        thread.start()
    wait_until(lambda: int(server.info("clients")["blocked_clients"]) == 3, "all wait")
    for number in range(3):
        send(brokers[0], f"r{number}")
        wait_until(lambda: len(heard) == number + 1, "one has heard it")  # noqa: B023 - it is called at once
    assert heard == ["r0", "r1", "r2"]


def test_a_consumer_with_its_hands_full_does_not_wake_up_for_what_it_may_not_fetch(redis_url: str, server: Any) -> None:
    broker = Broker(url=redis_url)
    consumer = consume(broker, prefetch=1)
    send(broker, "r1")
    send(broker, "r2")
    first = next(consumer)
    calls(server)
    assert [next(consumer) for _ in range(3)] == [None] * 3
    assert calls(server) == {"waits": 0, "fetches": 0}
    consumer.ack(first)
    assert next(consumer).kwargs == {"revocation_id": "r2"}


def test_a_server_that_lets_no_one_wait_is_asked_as_dramatiq_asks(redis_url: str, server: Any) -> None:
    server.execute_command("ACL", "SETUSER", "default", "-blmove")
    broker = Broker(url=redis_url)
    consumer = consume(broker)
    calls(server)
    assert [next(consumer) for _ in range(3)] == [None] * 3
    assert calls(server)["fetches"] == 3
    send(broker, "r1")
    assert next(consumer).kwargs == {"revocation_id": "r1"}


def test_a_server_that_goes_away_during_the_wait_is_a_closed_connection(own_valkey: Valkey) -> None:
    broker = Broker(url=own_valkey.url)
    consumer = consume(broker)
    own_valkey.kill()
    with pytest.raises(ConnectionClosed):
        next(consumer)
