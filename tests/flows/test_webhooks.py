"""Webhooks: every event reaches its endpoint, in order for each connection, whatever the endpoint does meanwhile."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import fakeredis
import pytest

from models.audit.entry import Action
from models.crypto.secrets import Secret
from models.messaging.events import About, ConnectionRefreshed, RecordChanged, StreamSettings, SyncFailed
from models.webhooks.endpoint import Endpoint
from tests.databases import both_databases
from tests.flows.receiving import Listener, Received, Receiver, receiving
from tests.harness import House
from worker.operations.dead_letters import carry_out_with_webhook, of_webhooks
from worker.queue.publish import PublishEvents
from worker.webhooks.deliver import DeliverWebhooks, lease_length
from worker.webhooks.endpoints import Endpoints
from worker.webhooks.states import States

streams: Any = {"events": StreamSettings("e", 1_000_000), "records": StreamSettings("r", 1_000_000)}


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    with receiving() as listening:
        yield listening


@dataclass
class Application:
    """An application with one endpoint, and a house that sends to it."""

    house: House
    receiver: Receiver
    endpoint: Endpoint
    secret: Secret
    publish: PublishEvents
    appended: dict[str, int] = field(default_factory=dict)

    @property
    def flow(self) -> DeliverWebhooks:
        return self.house.flows.deliver_webhooks

    @property
    def endpoints(self) -> Endpoints:
        return Endpoints(self.house.store, self.house.vault)

    @property
    def states(self) -> States:
        return States(self.house.store)

    def happen(self, count: int, connection_id: str = "c1", kind: str = "events") -> None:
        """Have events of a connection stored and published."""
        facts = [
            RecordChanged("created", "document", str(number), (), initial=False)
            if kind == "records"
            else ConnectionRefreshed(number, None)
            for number in range(count)
        ]
        with self.house.store.writing() as tx:
            tx.outbox.append(About("breezedoc", "ada", connection_id), facts, self.house.clock())
        self.appended[connection_id] = self.appended.get(connection_id, 0) + count
        self.publish()

    def pass_time(self, length: timedelta, step: timedelta = timedelta(minutes=1)) -> None:
        for _ in range(length // step):
            self.house.sweep()
            self.house.clock.turn(step)
        self.house.sweep()

    def stored(self) -> Endpoint:
        with self.house.store.reading() as tx:
            found = tx.webhooks.get(self.endpoint.id)
        assert found is not None
        return found

    def letters(self) -> list[Any]:
        with self.house.store.reading() as tx:
            return list(of_webhooks(tx))

    def is_idle(self) -> bool:
        with self.house.store.reading() as tx:
            return not tx.webhooks.loads()


@pytest.fixture
def application(house: House, listener: Listener) -> Application:
    receiver = listener.renew()
    flow = replace(house.flows.deliver_webhooks, deadline=timedelta(milliseconds=300))
    house.flows = replace(house.flows, deliver_webhooks=flow)
    made, secret = Endpoints(house.store, house.vault).add("app", receiver.url, ("*",), allow_private=True)
    redis = fakeredis.FakeRedis(server=fakeredis.FakeServer())
    return Application(house, receiver, made, secret, PublishEvents(house.store, redis, streams, house.clock))


def assert_all_taken_in_order(application: Application) -> None:
    """First appearances count 1, 2, 3 … for each connection, and every one verifies."""
    for connection_id, count in application.appended.items():
        documents = [each.verify(application.secret) for each in application.receiver.taken]
        sequences = [int(each["sequence"]) for each in documents if each["subject"] == connection_id]
        assert list(dict.fromkeys(sequences)) == list(range(1, count + 1))
    assert application.is_idle()


def of_first(status: int | None, count: int) -> Callable[[Receiver], Callable[[Received], int | None]]:
    """Answer the first deliveries so, and then take them."""
    return lambda receiver: lambda received: status if len(receiver.received) <= count else 204


def refuse_one(receiver: Receiver) -> Callable[[Received], int | None]:
    """Refuse the first event of one connection four times."""
    return lambda received: 500 if is_first_of_one(received) and received.number <= 4 else 204


def is_first_of_one(received: Received) -> bool:
    return (received.event["subject"], received.event["sequence"]) == ("c1", "1")


def stall(receiver: Receiver) -> Callable[[Received], int | None]:
    """Leave the first deliveries without an answer until the sender has given up."""

    def behave(received: Received) -> int | None:
        if len(receiver.received) <= 2:
            threading.Event().wait(0.6)
        return 204

    return behave


BEHAVIOURS: dict[str, tuple[Callable[[Receiver], Callable[[Received], int | None]], int]] = {
    "fine": (of_first(204, 0), 0),
    "closes the connection": (of_first(None, 5), 5),
    "500 for a while": (of_first(500, 5), 5),
    "a redirect": (of_first(302, 3), 3),
    "429": (of_first(429, 3), 3),
    "one event is refused": (refuse_one, 4),
    "slow": (stall, 2),
}


@pytest.mark.parametrize("case", BEHAVIOURS)
def test_every_event_is_delivered_in_order_and_no_more_often_than_needed(application: Application, case: str) -> None:
    make, failures = BEHAVIOURS[case]
    application.receiver.behave = make(application.receiver)
    for connection_id in ("c1", "c2", "c3"):
        application.happen(3, connection_id)
    application.pass_time(timedelta(hours=1), timedelta(minutes=5))
    assert_all_taken_in_order(application)
    assert len(application.receiver.received) - 9 in (failures, failures + 6)
    assert {each.path for each in application.receiver.received} == {"/webhooks"}
    assert application.stored().state == "active"


def test_an_endpoint_that_is_down_for_an_hour_is_asked_now_and_then(application: Application) -> None:
    application.receiver.behave = lambda received: None
    for number in range(30):
        application.happen(1, f"c{number}")
    application.pass_time(timedelta(hours=1), timedelta(minutes=2))
    assert application.stored().is_away
    assert len(application.receiver.received) < 60
    application.receiver.behave = lambda received: 204
    application.happen(2, "c0")
    application.pass_time(timedelta(minutes=6))
    assert_all_taken_in_order(application)
    assert application.stored().state == "active"


def test_one_connection_that_is_refused_does_not_hold_up_the_others(application: Application) -> None:
    application.receiver.behave = lambda received: 500 if b'"c1"' in received.body else 204
    for connection_id in ("c1", "c2"):
        application.happen(2, connection_id)
    application.house.sweep()
    application.happen(1, "c2")
    application.house.sweep()
    assert [each.verify(application.secret)["subject"] for each in application.receiver.taken] == ["c2"] * 3


def test_records_come_before_the_sync_that_found_them(application: Application) -> None:
    application.happen(2, kind="records")
    application.happen(1)
    application.house.sweep()
    types = [each.verify(application.secret)["type"] for each in application.receiver.taken]
    assert types == ["dev.breezesync.record.created"] * 2 + ["dev.breezesync.connection.refreshed"]
    assert application.is_idle()


def test_an_endpoint_hears_only_of_what_it_wants_and_from_when_it_was_added(application: Application) -> None:
    application.states.pause("app")
    application.happen(1)
    _, secret = application.endpoints.add("second", application.receiver.url, ("record",), allow_private=True)
    application.happen(1)
    application.happen(1, kind="records")
    application.house.sweep()
    assert [each.verify(secret)["type"] for each in application.receiver.taken] == ["dev.breezesync.record.created"]


def test_a_410_pauses_the_endpoint_and_a_resume_sends_what_has_waited(application: Application) -> None:
    application.receiver.behave = lambda received: 410
    application.happen(2)
    application.pass_time(timedelta(hours=1))
    application.happen(1)
    assert (application.stored().state, len(application.receiver.received)) == ("gone", 1)
    application.receiver.behave = lambda received: 204
    application.states.resume("app")
    application.house.sweep()
    assert_all_taken_in_order(application)


def make_test(application: Application) -> Any:
    """Ask for a test as an operator's page does, have it sent, and return what became of it."""
    assert States(application.house.store).test("app") is not None
    application.house.sweep()
    with application.house.store.reading() as tx:
        return tx.webhooks.trials()[application.endpoint.id]


def test_a_worker_sends_a_test_that_an_operator_asks_for_and_keeps_the_answer(application: Application) -> None:
    taken = make_test(application)
    [received] = application.receiver.received
    assert received.verify(application.secret)["type"] == "dev.breezesync.webhook.test"
    assert (taken.due_at, taken.error, application.stored().delivered_at is None) == (None, None, False)
    application.receiver.behave = lambda received: 400
    refused = make_test(application)
    assert (refused.error, application.stored().state, application.is_idle()) == ("HTTP 400", "active", True)


def test_an_endpoint_that_is_away_is_sent_a_test_first_and_then_all_that_waits(application: Application) -> None:
    application.receiver.behave = lambda received: None
    for number in range(4):
        application.happen(1, f"c{number}")
    application.pass_time(timedelta(minutes=10))
    assert application.stored().is_away
    application.receiver.received.clear()
    assert make_test(application).error is not None
    assert [each.event["type"] for each in application.receiver.received] == ["dev.breezesync.webhook.test"]
    application.receiver.behave = lambda received: 204
    assert make_test(application).error is None
    assert application.receiver.taken[0].event["type"] == "dev.breezesync.webhook.test"
    assert_all_taken_in_order(application)


def test_after_three_days_an_event_is_a_dead_letter_and_the_next_one_is_sent(application: Application) -> None:
    application.receiver.behave = lambda received: (
        500 if received.verify(application.secret)["sequence"] == "1" else 204
    )
    application.happen(2)
    application.pass_time(timedelta(days=3, hours=4), timedelta(hours=2))
    [letter] = application.letters()
    assert [each.verify(application.secret)["sequence"] for each in application.receiver.taken] == ["2"]
    assert (letter.actor, letter.error, letter.retries > 10) == ("deliver_webhooks", "HTTP 500", True)
    application.receiver.behave = lambda received: 204
    assert carry_out_with_webhook(application.house.store, Action.dead_letter_retried, letter)
    application.house.sweep()
    assert [each.event["sequence"] for each in application.receiver.taken] == ["2", "1"]
    assert application.is_idle()


def test_an_endpoint_that_is_away_for_three_days_leaves_dead_letters_only(application: Application) -> None:
    application.receiver.behave = lambda received: None
    for number in range(20):
        application.happen(3, f"c{number}")
    application.pass_time(timedelta(days=3, hours=4), timedelta(hours=4))
    assert len(application.letters()) == 60
    assert carry_out_with_webhook(application.house.store, Action.dead_letter_dropped, application.letters()[0])
    assert len(application.letters()) == 59


def test_while_a_secret_is_replaced_both_verify_and_then_only_the_new_one(application: Application) -> None:
    rotated = application.endpoints.rotate("app", timedelta(hours=1))
    assert rotated is not None
    application.happen(1)
    application.house.sweep()
    for secret in (application.secret, rotated[1]):
        assert application.receiver.taken[0].verify(secret)["sequence"] == "1"
    application.house.clock.turn(timedelta(hours=2))
    application.happen(1)
    application.house.sweep()
    assert len(application.receiver.taken[1].headers["webhook-signature"].split()) == 1


def test_the_audit_names_the_host_of_an_endpoint_and_no_secret_of_its_url(application: Application) -> None:
    application.endpoints.add(
        "chat", "https://chat.example:8443/services/T0/s3cret?key=s3cret", ("*",), allow_private=False
    )
    with application.house.store.reading() as tx:
        details = [line.detail for line in tx.audit.newest({}, None, 100) if line.action == "webhook.added"]
    assert {"webhook": "chat", "host": "chat.example:8443"} in details
    assert "s3cret" not in str(details)


def test_a_replay_sends_events_again_with_their_ids(application: Application) -> None:
    application.happen(3)
    application.house.sweep()
    with application.house.store.writing() as tx:
        assert tx.outbox.republish_since(application.house.clock() - timedelta(hours=1), application.house.clock()) == 3
    application.publish()
    application.house.sweep()
    ids = [each.id for each in application.receiver.taken]
    assert ids == ids[:3] * 2
    assert application.is_idle()


def test_a_private_address_is_not_connected_to_even_if_a_name_resolves_to_it(application: Application) -> None:
    url = application.receiver.url.replace("http://127.0.0.1", "https://app.example")
    application.states.remove("app")
    application.endpoints.add("rebound", url, ("*",), allow_private=False)
    flow = replace(application.flow, resolve=lambda host, port: ["93.184.215.14", "127.0.0.1"])
    application.house.flows = replace(application.house.flows, deliver_webhooks=flow)
    application.happen(1)
    application.house.sweep()
    with application.house.store.reading() as tx:
        found = tx.webhooks.named("rebound")
    assert found is not None
    assert found.error == "its name resolves to 127.0.0.1, which is not a public address"
    assert application.receiver.received == []


def test_the_host_and_the_name_of_the_url_go_to_the_address_that_was_checked(application: Application) -> None:
    port = application.receiver.url.split(":")[2].split("/")[0]
    application.states.remove("app")
    application.endpoints.add("named", f"http://app.example:{port}/webhooks", ("*",), allow_private=True)
    flow = replace(application.flow, resolve=lambda host, port: ["127.0.0.1"])
    application.house.flows = replace(application.house.flows, deliver_webhooks=flow)
    application.happen(1)
    application.house.sweep()
    assert [each.headers["host"] for each in application.receiver.taken] == [f"app.example:{port}"]


def fail(host: str, port: int) -> list[str]:
    """Resolve as the standard library does a name with an empty label."""
    raise UnicodeError("label empty or too long")


def stay_silent(host: str, port: int) -> list[str]:
    """Resolve as if no name server answered until long after the sender has given up."""
    silence.wait(60)
    return []


silence = threading.Event()
UNRESOLVED: dict[str, tuple[Callable[[str, int], list[str]], str]] = {
    "a name that none is": (fail, "its name can't be resolved (UnicodeError)"),
    "no name server answers": (stay_silent, "its name can't be resolved (TimeoutError)"),
}


@pytest.mark.parametrize("case", UNRESOLVED)
def test_a_name_that_is_not_resolved_counts_as_an_endpoint_that_is_away(application: Application, case: str) -> None:
    resolve, error = UNRESOLVED[case]
    silence.clear()
    application.house.flows = replace(
        application.house.flows, deliver_webhooks=replace(application.flow, resolve=resolve)
    )
    application.happen(1)
    application.house.sweep()
    silence.set()
    assert (application.stored().error, application.stored().failures) == (error, 1)


def test_a_name_of_other_letters_is_resolved_as_it_is_written(application: Application) -> None:
    asked = list[str]()

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    port = application.receiver.url.split(":")[2].split("/")[0]
    application.states.remove("app")
    application.endpoints.add("street", f"http://xn--strae-oqa.example:{port}/webhooks", ("*",), allow_private=True)
    flow = replace(application.flow, resolve=resolve)
    application.house.flows = replace(application.house.flows, deliver_webhooks=flow)
    application.happen(1)
    application.house.sweep()
    assert (asked, len(application.receiver.taken)) == (["xn--strae-oqa.example"], 1)


@both_databases
def test_workers_that_race_deliver_in_order_and_one_that_died_holds_up_nothing_for_long(
    application: Application,
) -> None:
    with application.house.store.writing() as tx:
        now = application.house.clock()
        assert tx.webhooks.lease(application.endpoint.id, "one that died", now, now + lease_length)
    application.happen(20)
    application.house.sweep()
    assert application.receiver.received == []
    application.house.clock.turn(lease_length)
    threads = [threading.Thread(target=application.flow, args=(application.endpoint.id,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    application.happen(20)
    for thread in threads:
        thread.join(60)
    application.house.clock.turn(timedelta(minutes=2))
    application.house.sweep()
    assert_all_taken_in_order(application)
    assert len(application.receiver.taken) == 40


def test_a_worker_whose_lease_ran_out_writes_nothing(application: Application) -> None:
    def outlast(received: Received) -> int:
        application.house.clock.turn(lease_length)
        return 204

    application.happen(2)
    application.receiver.behave = outlast
    application.flow(application.endpoint.id)
    application.receiver.behave = lambda received: 204
    application.house.clock.turn(timedelta(minutes=2))
    application.house.sweep()
    assert_all_taken_in_order(application)
    assert len(application.receiver.taken) == 3


def test_the_largest_events_are_sent_whole(application: Application) -> None:
    with application.house.store.writing() as tx:
        about = About("breezedoc", "ada", "c1")
        tx.outbox.append(about, [SyncFailed("r", "unreadable", "x" * 3_000_000)], application.house.clock())
    application.publish()
    application.house.sweep()
    assert len(application.receiver.taken[0].verify(application.secret)["data"]["description"]) == 3_000_000
