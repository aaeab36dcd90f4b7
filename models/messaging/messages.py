"""The messages of the queue: each actor's queue and arguments (ids only), and checks of what arrives.

Only `confirm` brings something else: a one-time value that opens nothing by itself. Logs mask it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from models.errors import Permanent
from models.messaging.trace_context import is_traceparent, option

earliest = datetime(2020, 1, 1, tzinfo=UTC)
"""No message is older; an earlier timestamp is in another unit."""

QUEUES: Final[dict[str, str]] = {
    "exchange_code": "exchange",
    "confirm": "exchange",
    "refresh_token": "refresh",
    "carry_out_refresh": "refresh",
    "sync_connection": "sync",
    "sync_user": "sync",
    "carry_out_sync": "sync",
    "read_connection": "reading",
    "disconnect": "control",
    "carry_out_disconnect": "control",
    "revoke_grant": "control",
    "probe_client": "control",
    "call": "calls",
    "publish_events": "events",
    "deliver_webhooks": "webhooks",
}

REQUESTS: Final = frozenset({"confirm", "refresh_token", "sync_connection", "sync_user", "disconnect"})
"""Messages that are themselves what someone asked for: until they are carried out, no row says so. All other work is
due in a row, from which the sweep sends it again."""

longest_id = 255
longest_text = 256 << 10
"""Bytes of a message: ids, and the traceback of its last failure."""
most_retries = 10**6
latest = 10**15
"""Milliseconds since 1970; no time in an option is later."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message: the actor it is for and its keyword arguments, all of them ids."""

    actor: str
    kwargs: dict[str, str]

    @property
    def queue(self) -> str:
        return QUEUES[self.actor]


@dataclass(frozen=True, slots=True)
class Sent:
    """The id of a message and when it was first sent, by its sender's clock.

    Both stay the same however often it is delivered or retried.
    """

    id: str
    at: datetime


def exchange_code(authorization_id: str) -> Message:
    return Message("exchange_code", {"authorization_id": authorization_id})


def refresh_token(connection_id: str) -> Message:
    """Return a request for a refresh, due or not."""
    return Message("refresh_token", {"connection_id": connection_id})


def carry_out_refresh(connection_id: str) -> Message:
    """Return a message for a refresh that is due in the connection's row; delivered late, it does nothing."""
    return Message("carry_out_refresh", {"connection_id": connection_id})


def sync_connection(connection_id: str) -> Message:
    return Message("sync_connection", {"connection_id": connection_id})


def carry_out_sync(connection_id: str) -> Message:
    """Return a message for a sync that someone asked for and that is due in the connection's row.

    The actor `sync_connection` is for applications, whose message is itself the request.
    """
    return Message("carry_out_sync", {"connection_id": connection_id})


def read_connection(connection_id: str) -> Message:
    """Return a message for a sync that is due or running; its own queue comes after requested syncs."""
    return Message("read_connection", {"connection_id": connection_id})


def sync_user(user_id: str, provider: str | None = None) -> Message:
    return Message("sync_user", {"user_id": user_id} | ({"provider": provider} if provider else {}))


def carry_out_disconnect(connection_id: str) -> Message:
    """Return a message for a disconnect that is due in the connection's row, and so happens once.

    The actor `disconnect` is for applications, whose message is itself the request.
    """
    return Message("carry_out_disconnect", {"connection_id": connection_id})


def revoke_grant(revocation_id: str) -> Message:
    return Message("revoke_grant", {"revocation_id": revocation_id})


def probe_client(provider: str, client_id: str) -> Message:
    return Message("probe_client", {"provider": provider, "client_id": client_id})


def call(call_id: str) -> Message:
    """Return a message for a call that is due in its row; delivered late or twice, it does nothing."""
    return Message("call", {"call_id": call_id})


def publish_events() -> Message:
    return Message("publish_events", {})


def deliver_webhooks(webhook_id: str) -> Message:
    return Message("deliver_webhooks", {"webhook_id": webhook_id})


class MessageRefused(Permanent):
    """A message whose arguments are not what its actor takes."""


def read_sent(message_id: str, timestamp_ms: float) -> Sent:
    """Read a message's own id and time. Raises `MessageRefused` if either is missing or impossible."""
    check_ids({"message_id": message_id})
    try:
        at = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        at = earliest
    if at <= earliest:
        raise MessageRefused("message_timestamp is not a time: expected milliseconds since 1970")
    return Sent(message_id, at)


def find_fault(text: bytes, queue_name: str, key: str) -> str | None:
    """Return why a text from a queue is not a message that a worker can take; None if it is one.

    `key` is what the queue keeps it under. Dramatiq believes the options: one decides what counts as a failure, another
    by which key the message is acknowledged. So only those count that Dramatiq writes (see `keep_known_options`).
    """
    if len(text) > longest_text:
        return f"it is longer than {longest_text} bytes"
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return "it is not JSON"
    if not isinstance(fields, dict):
        return "it is not an object"
    for name, kind in _fields.items():
        if not isinstance(fields.get(name), kind) or isinstance(fields[name], bool):
            return f"its {name} is missing or of the wrong kind"
    if unknown := set(fields) - set(_fields):
        return f"it has {len(unknown)} fields that no message has"
    if fields["queue_name"] != queue_name:
        return "it is for another queue"
    return _find_fault_of_arguments(fields) or _find_fault_of_options(fields["options"], key)


def _find_fault_of_arguments(fields: Mapping[str, Any]) -> str | None:
    if any(isinstance(value, dict | list) for value in (*fields["args"], *fields["kwargs"].values())):
        return "its arguments are not ids"
    if "self" in fields["kwargs"]:
        return "one of its arguments is named self"
    if fields["actor_name"] == "confirm" and fields["args"]:
        return "its arguments have no names, by which the confirmation is kept out of logs"
    return None


def _find_fault_of_options(options: Mapping[str, object], key: str) -> str | None:
    for name, value in options.items():
        if name not in _options:
            continue
        if not isinstance(value, _options[name]) or isinstance(value, bool):
            return f"its option {name} is of the wrong kind"
        if isinstance(value, int | float) and not 0 <= value <= (most_retries if name == "retries" else latest):
            return f"its option {name} is out of range"
    if options.get("redis_message_id") != key or not (key.isascii() and key.isprintable()):
        return "its option redis_message_id is missing, or is another message's"
    return None


def keep_known_options(text: bytes) -> bytes:
    """Return a message that has no fault without the options that Dramatiq's broker and its retries don't write.

    An application's own middleware may write some, which here would mean something else. The trace that the message
    belongs to stays, if it can be read.
    """
    fields = json.loads(text)
    given = fields["options"]
    known = _options.keys() | ({option} if is_traceparent(given.get(option)) else set())
    if given.keys() <= known:
        return text
    fields["options"] = {name: value for name, value in given.items() if name in known}
    return json.dumps(fields).encode()


def explain_refusal(text: bytes, fault: str) -> bytes | None:
    """Return the text with the fault where a dead letter has its reason; None if that can't be written into it."""
    if len(text) > longest_text:
        return None
    try:
        fields = json.loads(text)
        if not isinstance(fields, dict) or not isinstance(fields.get("options"), dict):
            return None
        fields["options"]["traceback"] = f"MessageRefused: {fault}"
        return json.dumps(fields).encode()
    except (ValueError, RecursionError):
        return None


def check_ids(arguments: Mapping[str, object]) -> None:
    """Raise `MessageRefused` unless every text among a message's arguments can be an id."""
    for name, value in arguments.items():
        if isinstance(value, str) and not (1 <= len(value) <= longest_id and value.isprintable()):
            raise MessageRefused(f"{name} is not an id: expected 1 to {longest_id} visible characters")


_options: Final[Mapping[str, type | tuple[type, ...]]] = {
    "redis_message_id": str,
    "eta": (int, float),
    "retries": int,
    "traceback": str,
    "requeue_timestamp": int,
}
"""The options that Dramatiq's broker and its retries write into a message."""

_fields: Final[Mapping[str, type | tuple[type, ...]]] = {
    "queue_name": str,
    "actor_name": str,
    "args": list,
    "kwargs": dict,
    "options": dict,
    "message_id": str,
    "message_timestamp": (int, float),
}
