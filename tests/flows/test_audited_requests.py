"""Whatever a foreign party can ask, by a message or on the commands stream, has a line that says how it was asked.

A new actor or command fails here until it is in a table: with its line, or with the reason why it has none.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from inspect import signature
from urllib.parse import parse_qsl, urlsplit

import dramatiq
import pytest
import redis
from dramatiq import Worker
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import CurrentMessage, Retries

from models.audit.chain import Line
from models.audit.entry import application
from models.gateway.call import CallStatus, StoredCall
from models.messaging import commands
from models.messaging.messages import QUEUES, REQUESTS
from models.oauth.authorization import Confirmation
from models.oauth.confirmation import confirmation_of
from tests.flows.test_audit import lines_of
from tests.flows.test_commands import read_all, reader, stream
from tests.harness import House
from worker.actors import declare_actors


@dataclass(frozen=True)
class Subjects:
    """What a request can be about: a connection of Ada's, a call that has ended, and an authorization that waits for a
    confirmation."""

    connection_id: str
    authorization_id: str
    confirmation: str
    call_id: str


Arguments = Callable[[Subjects], dict[str, str]]


def of_connection(subjects: Subjects) -> dict[str, str]:
    return {"connection_id": subjects.connection_id}


def of_user(subjects: Subjects) -> dict[str, str]:
    return {"user_id": "ada"}


def of_call(subjects: Subjects) -> dict[str, str]:
    return {"call_id": subjects.call_id}


def of_authorization(subjects: Subjects) -> dict[str, str]:
    return {
        "authorization_id": subjects.authorization_id,
        "user_id": "ada",
        "confirmation": subjects.confirmation,
    }


messages: Mapping[str, tuple[str, Arguments]] = {
    "confirm": ("confirm", of_authorization),
    "refresh_token": ("refresh", of_connection),
    "sync_connection": ("sync", of_connection),
    "sync_user": ("sync", of_user),
    "disconnect": ("disconnect", of_connection),
}
due: Mapping[str, str] = {
    "exchange_code": "a code is exchanged once, whoever asks, and that is code.exchanged",
    "carry_out_refresh": "carries out what is due in a row",
    "carry_out_sync": "carries out what is due in a row; the line was written when it became due",
    "read_connection": "carries out what is due in a row",
    "carry_out_disconnect": "carries out what is due in a row; the line was written when it became due",
    "revoke_grant": "carries out what is due in a row, and that is token.revoked_upstream",
    "probe_client": "carries out what is due in a row, with no one's token",
    "call": "carries out what is due in a row, and that is call.made",
    "deliver_webhooks": "sends what waits in a row, with no one's token",
    "publish_events": "publishes what is in the outbox, with no one's token",
}
on_the_stream: Mapping[str, Arguments] = {
    "call": of_call,
    "confirm": of_authorization,
    "refresh": of_connection,
    "sync": of_user,
    "disconnect": of_connection,
}


ended = StoredCall(
    id="k1",
    connection_id="",
    idempotency_key="one",
    method="POST",
    path="/documents",
    actor="gateway:billing",
    status=CallStatus.completed,
    created_at=datetime(2026, 11, 24, tzinfo=UTC),
    request=None,
    bodies_until=None,
    due_at=None,
)


def test_every_message_and_every_command_is_in_a_table() -> None:
    assert messages.keys() == REQUESTS
    assert messages.keys() | due.keys() == QUEUES.keys()
    assert on_the_stream.keys() == set(commands.types)


@pytest.fixture
def subjects(house: House) -> Subjects:
    connection = house.connect("ada", 1)
    house.work()
    callback = replace(house.callback, confirmation=Confirmation.application)
    begun = callback.begin("breezedoc", house.link("ada", return_to="https://app.example/"), {})
    back = house.control.authorize(begun.location, 1)
    kept = callback.finish("breezedoc", dict(parse_qsl(urlsplit(back).query)), {begun.flow: begun.binding})
    with house.store.writing() as tx:
        tx.calls.add(replace(ended, connection_id=connection.id))
    return Subjects(connection.id, kept.id, confirmation_of(begun.binding), ended.id)


@contextmanager
def working(house: House) -> Iterator[StubBroker]:
    """A worker with the house's flows."""
    broker = StubBroker(middleware=[CurrentMessage(), Retries()])
    broker.emit_after("process_boot")
    declare_actors(broker, house.flows)
    worker = Worker(broker, worker_timeout=50, worker_threads=1)
    worker.start()
    try:
        yield broker
    finally:
        worker.stop()
        broker.close()


def received(house: House) -> list[Line]:
    return [line for line in lines_of(house) if line.action == "command.received"]


def assert_received(line: Line, subjects: Subjects, command: str, channel: str) -> None:
    assert (line.actor, line.user_id) == (application, "ada")
    assert (line.detail["command"], line.detail["channel"]) == (command, channel)
    about = (line.connection_id, line.authorization_id)
    expected = (None, subjects.authorization_id) if command == "confirm" else (subjects.connection_id, None)
    assert about == expected


@pytest.mark.parametrize("actor", sorted(messages))
def test_a_message_that_asks_for_something_is_recorded_once(house: House, subjects: Subjects, actor: str) -> None:
    command, arguments = messages[actor]
    message: dramatiq.Message[object] = dramatiq.Message(
        queue_name=QUEUES[actor], actor_name=actor, args=(), kwargs=arguments(subjects), options={}
    )
    with working(house) as broker:
        broker.enqueue(message)
        broker.join(message.queue_name, timeout=30_000)
    house.work()
    [line] = received(house)
    assert_received(line, subjects, command, "message")


@pytest.mark.parametrize("actor", sorted(due))
def test_a_message_that_asks_for_nothing_does_nothing_that_is_not_due(
    house: House, subjects: Subjects, actor: str
) -> None:
    ids = {"authorization_id": subjects.authorization_id, "connection_id": subjects.connection_id}
    ids |= {"call_id": subjects.call_id, "revocation_id": "r1", "webhook_id": "w1", "provider": "breezedoc"}
    ids |= {"client_id": "sandbox-client"}
    before = lines_of(house)
    house.flows = replace(house.flows, publish=lambda: True)
    house.control.reset_counters()
    with working(house) as broker:
        kwargs = {name: value for name, value in ids.items() if name in signature(broker.actors[actor].fn).parameters}
        broker.enqueue(dramatiq.Message(QUEUES[actor], actor, (), kwargs, {}))
        broker.join(QUEUES[actor], timeout=30_000)
    house.work()
    assert (lines_of(house), house.control.counters()["totals"]) == (before, {})


@pytest.mark.parametrize("command", sorted(on_the_stream))
def test_a_command_on_the_stream_is_recorded_once(
    house: House, subjects: Subjects, redis_url: str, command: str
) -> None:
    with redis.Redis.from_url(redis_url) as raw:
        raw.xadd(stream, {"type": command, **on_the_stream[command](subjects)})
        read_all(reader(house, raw))
    house.work()
    [line] = received(house)
    assert_received(line, subjects, command, "stream")
