"""The queue contract on a broker that really behaves: a message finds its actor, and what fails ends as it should."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic
from typing import Any

import dramatiq
import pytest
from dramatiq import Worker
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import CurrentMessage, Retries
from structlog.testing import capture_logs

from config.logs import mask_text
from models.errors import Permanent, Transient
from models.messaging import messages
from models.messaging.messages import QUEUES, REQUESTS, Message
from worker.actors import Flows, declare_actors


@dataclass
class Recorded:
    """A flow that notes what it was asked, and raises what it is told to."""

    asked: list[dict[str, Any]] = field(default_factory=list)
    raises: Callable[[], Exception] | None = None
    times: int | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        self.asked.append({"args": args, **kwargs})
        if self.raises is not None and (self.times is None or len(self.asked) <= self.times):
            raise self.raises()


@dataclass
class House:
    broker: StubBroker
    flows: dict[str, Recorded]

    def send(self, message: Message) -> None:
        self.broker.enqueue(
            dramatiq.Message(
                queue_name=message.queue, actor_name=message.actor, args=(), kwargs=dict(message.kwargs), options={}
            )
        )

    def finish(self, queue: str) -> None:
        self.broker.join(queue, timeout=30_000, fail_fast=False)


@pytest.fixture
def house() -> Iterator[House]:
    broker = StubBroker(middleware=[CurrentMessage(), Retries()])
    broker.emit_after("process_boot")
    flows = {name_flow(case): Recorded() for case in every_message}
    declare_actors(broker, Flows(**flows, recover_tokens=None))  # type: ignore[arg-type]
    for actor in broker.actors.values():
        actor.options |= {"min_backoff": 1, "max_backoff": 1}
    worker = Worker(broker, worker_timeout=50, worker_threads=2)
    worker.start()
    yield House(broker, flows)
    worker.stop()
    broker.close()


every_message = {
    "exchange": messages.exchange_code("a1"),
    "confirm": Message("confirm", {"authorization_id": "a1", "user_id": "ada", "confirmation": "c"}),
    "refresh": messages.refresh_token("c1"),
    "refresh that is due": messages.carry_out_refresh("c1"),
    "sync": messages.sync_connection("c1"),
    "sync that was asked for": messages.carry_out_sync("c1"),
    "sync that is due": messages.read_connection("c1"),
    "sync_user": messages.sync_user("ada", "breezedoc"),
    "disconnect": Message("disconnect", {"connection_id": "c1"}),
    "disconnect that is due": messages.carry_out_disconnect("c1"),
    "revoke": messages.revoke_grant("r1"),
    "probe_client": messages.probe_client("breezedoc", "client-1"),
    "call": messages.call("k1"),
    "publish": messages.publish_events(),
    "deliver_webhooks": messages.deliver_webhooks("w1"),
}


def name_flow(case: str) -> str:
    return case.split(maxsplit=1)[0]


def test_every_message_has_one_actor_and_every_actor_a_message() -> None:
    broker = StubBroker()
    declare_actors(broker, Flows(**dict.fromkeys(map(name_flow, every_message)), recover_tokens=None))  # type: ignore[arg-type]
    assert {name: actor.queue_name for name, actor in broker.actors.items()} == QUEUES
    assert {message.actor for message in every_message.values()} == set(QUEUES)


@pytest.mark.parametrize("case", every_message)
def test_a_message_reaches_its_flow_with_its_ids(house: House, case: str) -> None:
    message, flow = every_message[case], name_flow(case)
    house.send(message)
    house.finish(message.queue)
    [asked] = house.flows[flow].asked
    asked.pop("message_id", None)
    asked.pop("asked", None)
    ids = [value for value in (*asked.pop("args"), *asked.values()) if isinstance(value, str)]
    assert sorted(ids) == sorted(message.kwargs.values())
    assert [name for name, recorded in house.flows.items() if recorded.asked] == [flow]


def test_a_disconnect_says_which_message_asks_and_since_when_however_often_it_is_tried(house: House) -> None:
    house.flows["disconnect"].raises, house.flows["disconnect"].times = lambda: Transient("a passing trouble"), 3
    message: dramatiq.Message[object] = dramatiq.Message(
        queue_name="control",
        actor_name="disconnect",
        args=(),
        kwargs={"connection_id": "c1"},
        options={},
        message_timestamp=1_800_000_000_250,
    )
    house.broker.enqueue(message)
    house.finish("control")
    asked = [each["args"] for each in house.flows["disconnect"].asked]
    assert asked == [("c1", False, messages.Sent(message.message_id, message.message_datetime))] * 4


@pytest.mark.parametrize(
    ("flow", "sent", "more"),
    [("sync", messages.sync_connection("c1"), {}), ("refresh", messages.refresh_token("c1"), {"asked": True})],
)
def test_a_request_says_which_message_asks_however_often_it_is_tried(
    house: House, flow: str, sent: Message, more: dict[str, object]
) -> None:
    house.flows[flow].raises, house.flows[flow].times = lambda: Transient("a passing trouble"), 3
    message: dramatiq.Message[object] = dramatiq.Message(
        queue_name=sent.queue, actor_name=sent.actor, args=(), kwargs=dict(sent.kwargs), options={}
    )
    house.broker.enqueue(message)
    house.finish(sent.queue)
    assert house.flows[flow].asked == [{"args": ("c1",), "message_id": message.message_id, **more}] * 4


def test_a_disconnect_that_is_due_is_asked_for_by_its_row_alone(house: House) -> None:
    house.send(messages.carry_out_disconnect("c1"))
    house.finish("control")
    assert house.flows["disconnect"].asked == [{"args": ("c1",), "asked": False}]


def test_a_disconnect_that_names_no_time_is_a_dead_letter_at_once(house: House) -> None:
    house.broker.enqueue(
        dramatiq.Message(
            queue_name="control",
            actor_name="disconnect",
            args=(),
            kwargs={"connection_id": "c1"},
            options={},
            message_timestamp=10**30,
        )
    )
    house.finish("control")
    assert (house.flows["disconnect"].asked, len(house.broker.dead_letters)) == ([], 1)


def test_a_permanent_error_is_a_dead_letter_at_once(house: House) -> None:
    house.flows["sync"].raises = lambda: Permanent("no retry helps")
    house.send(messages.sync_connection("c1"))
    house.finish("sync")
    assert len(house.flows["sync"].asked) == 1
    assert [letter.kwargs for letter in house.broker.dead_letters] == [{"connection_id": "c1"}]


due_work = {case: message for case, message in every_message.items() if message.actor not in REQUESTS}


@pytest.mark.parametrize("case", due_work)
def test_a_transient_error_of_due_work_is_tried_a_few_times_and_then_left_to_the_sweep(house: House, case: str) -> None:
    message, flow = due_work[case], house.flows[name_flow(case)]
    flow.raises = lambda: Transient("a passing trouble")
    house.send(message)
    house.finish(message.queue)
    assert len(flow.asked) == (1 if message.actor == "publish_events" else 4)
    assert house.broker.dead_letters == []


@pytest.mark.parametrize("case", [case for case in every_message if case not in due_work])
def test_a_request_outlasts_an_outage(house: House, case: str) -> None:
    message, flow = every_message[case], house.flows[name_flow(case)]
    flow.raises, flow.times = lambda: Transient("an outage"), 40
    house.send(message)
    house.finish(message.queue)
    assert (len(flow.asked), house.broker.dead_letters) == (41, [])


def test_a_retry_is_one_calm_line(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.flows["refresh"].raises, house.flows["refresh"].times = lambda: Transient("a passing trouble"), 2
    with capture_logs() as lines:
        house.send(messages.carry_out_refresh("c1"))
        house.finish("refresh")
    told = [(line["event"], line["log_level"], line["error"]) for line in lines]
    assert told == [("message.retried", "info", "a passing trouble")] * 2
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []
    assert [record for record in caplog.records if record.exc_info] == []


def test_a_confirmation_that_fails_leaves_its_value_in_no_log(house: House, caplog: pytest.LogCaptureFixture) -> None:
    value = "Zk1q-a-one-time-value"
    house.flows["confirm"].raises, house.flows["confirm"].times = lambda: RuntimeError("a defect"), 1
    house.send(Message("confirm", {"authorization_id": "a1", "user_id": "ada", "confirmation": value}))
    house.finish("exchange")
    written = [record.getMessage() for record in caplog.records]
    assert any(value in line for line in written), "Dramatiq writes a failing message with its arguments"
    assert [line for line in written if value in mask_text(line)] == []


def test_a_retry_waits_as_long_as_the_other_side_asks(house: House) -> None:
    house.flows["refresh"].raises = lambda: Transient("busy", retry_after=timedelta(milliseconds=300))
    house.flows["refresh"].times = 1
    started = monotonic()
    house.send(messages.carry_out_refresh("c1"))
    house.finish("refresh")
    assert (len(house.flows["refresh"].asked), monotonic() - started >= 0.3) == (2, True)


@pytest.mark.parametrize(
    "kwargs", [{}, {"connection_id": "c1", "surplus": "x"}, {"connection_id": None}, {"connection_id": {"deep": [1]}}]
)
def test_a_senseless_message_harms_no_other(house: House, kwargs: dict[str, Any]) -> None:
    senseless: dramatiq.Message[object] = dramatiq.Message(
        queue_name="sync", actor_name="sync_connection", args=(), kwargs=kwargs, options={"max_retries": 0}
    )
    house.broker.enqueue(senseless)
    house.send(messages.sync_connection("c2"))
    house.finish("sync")
    assert "c2" in [value for asked in house.flows["sync"].asked for value in asked["args"]]
