"""The queue's vocabulary: one queue for each actor, ids and nothing else in each message."""

from datetime import UTC, datetime

import pytest

from models.messaging import messages
from models.messaging.messages import QUEUES, Message, MessageRefused, Sent, read_sent

each = {
    "exchange_code": (messages.exchange_code("a1"), "exchange", {"authorization_id": "a1"}),
    "refresh_token": (messages.refresh_token("c1"), "refresh", {"connection_id": "c1"}),
    "carry_out_refresh": (messages.carry_out_refresh("c1"), "refresh", {"connection_id": "c1"}),
    "sync_connection": (messages.sync_connection("c1"), "sync", {"connection_id": "c1"}),
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
    "publish_events": (messages.publish_events(), "events", {}),
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
