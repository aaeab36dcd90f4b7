"""The queue's vocabulary: one queue for each actor, ids and nothing else in each message."""

import json
from datetime import UTC, datetime

import pytest

from models.messaging import messages
from models.messaging.messages import (
    QUEUES,
    Message,
    MessageRefused,
    Sent,
    explain_refusal,
    find_fault,
    keep_known_options,
    read_sent,
)

each = {
    "exchange_code": (messages.exchange_code("a1"), "exchange", {"authorization_id": "a1"}),
    "refresh_token": (messages.refresh_token("c1"), "refresh", {"connection_id": "c1"}),
    "carry_out_refresh": (messages.carry_out_refresh("c1"), "refresh", {"connection_id": "c1"}),
    "sync_connection": (messages.sync_connection("c1"), "sync", {"connection_id": "c1"}),
    "carry_out_sync": (messages.carry_out_sync("c1"), "sync", {"connection_id": "c1"}),
    "read_connection": (messages.read_connection("c1"), "reading", {"connection_id": "c1"}),
    "sync_user": (messages.sync_user("ada"), "sync", {"user_id": "ada"}),
    "sync_user at one provider": (messages.sync_user("ada", "p"), "sync", {"user_id": "ada", "provider": "p"}),
    "disconnect, as an application sends it": (
        Message("disconnect", {"connection_id": "c1"}),
        "control",
        {"connection_id": "c1"},
    ),
    "carry_out_disconnect": (messages.carry_out_disconnect("c1"), "control", {"connection_id": "c1"}),
    "revoke_grant": (messages.revoke_grant("r1"), "control", {"revocation_id": "r1"}),
    "confirm": (
        Message("confirm", {"authorization_id": "a1", "user_id": "ada", "confirmation": "c"}),
        "exchange",
        {"authorization_id": "a1", "user_id": "ada", "confirmation": "c"},
    ),
    "probe_client": (
        messages.probe_client("p", "client-1"),
        "control",
        {"provider": "p", "client_id": "client-1"},
    ),
    "call": (messages.call("k1"), "calls", {"call_id": "k1"}),
    "publish_events": (messages.publish_events(), "events", {}),
    "deliver_webhooks": (messages.deliver_webhooks("w1"), "webhooks", {"webhook_id": "w1"}),
}


@pytest.mark.parametrize("case", each)
def test_a_message_names_its_actor_and_carries_its_ids(case: str) -> None:
    message, queue, kwargs = each[case]
    assert (message.actor, message.queue, message.kwargs) == (case.replace(",", "").split(maxsplit=1)[0], queue, kwargs)


def test_every_actor_has_a_message_and_every_message_an_actor() -> None:
    assert {message.actor for message, _, _ in each.values()} == set(QUEUES)


def test_a_message_says_which_it_is_and_when_it_was_sent() -> None:
    assert read_sent("m1", 1_800_000_000_250) == Sent("m1", datetime(2027, 1, 15, 8, 0, 0, 250_000, tzinfo=UTC))


@pytest.mark.parametrize(
    ("message_id", "timestamp_ms"),
    [("m1", 1e300), ("m1", 10**400), ("m1", float("nan")), ("m1", float("-inf")), ("", 0), ("m" * 256, 0), ("\0", 0)],
)
def test_a_message_without_an_id_or_a_time_is_refused(message_id: str, timestamp_ms: float) -> None:
    with pytest.raises(MessageRefused):
        read_sent(message_id, timestamp_ms)


def test_a_message_for_nobody_has_no_queue() -> None:
    with pytest.raises(KeyError):
        assert Message("nobody", {}).queue


def text_of(**changes: object) -> bytes:
    usual = {"queue_name": "sync", "actor_name": "sync_connection", "args": [], "kwargs": {"connection_id": "c1"}}
    options = {"redis_message_id": "k", "eta": 1.5, "retries": 3, "traceback": "x", "requeue_timestamp": 7}
    return json.dumps({**usual, "options": options, "message_id": "m", "message_timestamp": 1, **changes}).encode()


def test_a_message_as_dramatiq_writes_it_has_no_fault() -> None:
    assert find_fault(text_of(), "sync", "k") is None


faults: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"{", "it is not JSON"),
    "no object": (b"[]", "it is not an object"),
    "too deep": (b"[" * 9999, "it is not JSON"),
    "too long": (b" " * 300_000, "it is longer than 262144 bytes"),
    "a field missing": (b"{}", "its queue_name is missing or of the wrong kind"),
    "a field too many": (text_of(more=1), "it has 1 fields that no message has"),
    "another queue": (text_of(queue_name="refresh"), "it is for another queue"),
    "a list for an id": (text_of(kwargs={"connection_id": []}), "its arguments are not ids"),
    "a confirmation without a name": (
        text_of(actor_name="confirm", args=["a", "b", "c"], kwargs={}),
        "its arguments have no names, by which the confirmation is kept out of logs",
    ),
    "an argument of Python's": (text_of(kwargs={"self": ""}), "one of its arguments is named self"),
    "no key": (text_of(options={}), "its option redis_message_id is missing, or is another message's"),
    "another key": (
        text_of(options={"redis_message_id": "l"}),
        "its option redis_message_id is missing, or is another message's",
    ),
    "a wrong kind": (text_of(options={"retries": "1"}), "its option retries is of the wrong kind"),
    "too many retries": (text_of(options={"retries": 10**9}), "its option retries is out of range"),
}


@pytest.mark.parametrize("case", faults)
def test_what_is_no_message_has_a_fault(case: str) -> None:
    text, fault = faults[case]
    assert find_fault(text, "sync", "k") == fault


def test_options_that_dramatiq_does_not_write_are_taken_away() -> None:
    options = {"redis_message_id": "k", "eta": 1.5, "throws": "x", "_sentry_headers": {}}
    kept = keep_known_options(text_of(options=options))
    assert json.loads(kept) == json.loads(text_of(options={"redis_message_id": "k", "eta": 1.5}))
    assert keep_known_options(text_of()) == text_of()


def test_a_refusal_is_written_where_a_dead_letter_has_its_reason() -> None:
    explained = explain_refusal(text_of(), "it is bad")
    assert explained is not None
    assert json.loads(explained)["options"]["traceback"] == "MessageRefused: it is bad"
    assert [explain_refusal(text, "it is bad") for text in (b"{", b"[]", b"{}", b"[" * 9999)] == [None] * 4
