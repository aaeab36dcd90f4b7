"""The examples work as the fleet's Redis user for an application, by the rules that the fleet's Redis gets."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dramatiq
import pytest
import redis
from dramatiq.brokers.redis import RedisBroker

from tests.examples.consumers import Consumers, Language, printed
from tests.journey.test_redis_forms import CHECKOUT, make_users, refusals, rules_of
from tests.servers import Valkey, wait_until

STREAMS = ("breezesync:events", "breezesync:records")
ENTRY = '{{"id": "{stream}-1", "subject": "c1", "sequence": "1"}}'


def test_the_documented_rules_are_those_of_the_file() -> None:
    _, rest = (CHECKOUT / "docs" / "redis.md").read_text().split("ACL SETUSER app on >PASSWORD", 1)
    documented = rest.split("```", 1)[0].split()
    assert [rule for rule in documented if rule != "resetkeys"] == rules_of("application")


@pytest.fixture
def application(own_valkey: Valkey) -> Iterator[Any]:
    url = make_users(own_valkey)["application"]
    with redis.Redis.from_url(url, decode_responses=True) as opened:
        yield opened


def test_a_consumer_reads_both_streams_in_a_group(
    own_valkey: Valkey, application: Any, language: Language, tmp_path: Path
) -> None:
    with redis.Redis.from_url(own_valkey.url) as admin:
        for stream in STREAMS:
            admin.xadd(stream, {"event": ENTRY.format(stream=stream)})
    url = own_valkey.url.replace("redis://", "redis://application:password-of-application@")
    consumers = Consumers(language, url, tmp_path)
    try:
        consumer = consumers.start()
        wait_until(lambda: len(printed(consumer)) == 2, "both events are printed", 30)
        wait_until(lambda: sum(application.xpending(s, "readers")["pending"] for s in STREAMS) == 0, "all acknowledged")
        consumer.stop()
    finally:
        consumers.kill()
    assert printed(consumer)[-1] == {"events": 2, "repeats": 0, "gaps": 0}
    assert [application.xinfo_consumers(stream, "readers") for stream in STREAMS] == [[], []], "it has left the groups"
    assert refusals(own_valkey) == set()


def test_an_application_sends_commands_and_messages_and_can_forge_no_event(
    own_valkey: Valkey, application: Any
) -> None:
    application.xadd("breezesync:commands", {"type": "sync", "user_id": "ada"})
    build: Any = RedisBroker
    broker = build(client=application)
    broker.declare_queue("sync")
    broker.enqueue(dramatiq.Message("sync", "sync_connection", ("c1",), {}, {}))
    assert refusals(own_valkey) == set()
    forbidden: tuple[Callable[[], object], ...] = (
        lambda: application.xadd("breezesync:events", {"event": "forged"}),
        lambda: application.xread({"breezesync:commands": "0"}),
        lambda: application.xgroup_destroy("breezesync:events", "another"),
        lambda: application.get("breezesync:queue"),
    )
    for each in forbidden:
        with pytest.raises(redis.exceptions.NoPermissionError):
            each()
