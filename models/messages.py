"""The queue's vocabulary: which actor stands on which queue, and what each message carries (ids only)."""

from dataclasses import dataclass
from typing import Final

QUEUES: Final[dict[str, str]] = {
    "exchange_code": "exchange",
    "refresh_token": "refresh",
    "sync_connection": "sync",
    "sync_user": "sync",
    "read_connection": "reading",
    "disconnect": "control",
    "revoke_grant": "control",
    "publish_events": "events",
}


@dataclass(frozen=True, slots=True)
class Message:
    """One message: the actor it is for and its keyword arguments, all of them ids."""

    actor: str
    kwargs: dict[str, str]

    @property
    def queue(self) -> str:
        return QUEUES[self.actor]


def exchange_code(authorization_id: str) -> Message:
    return Message("exchange_code", {"authorization_id": authorization_id})


def refresh_token(connection_id: str) -> Message:
    return Message("refresh_token", {"connection_id": connection_id})


def sync_connection(connection_id: str) -> Message:
    return Message("sync_connection", {"connection_id": connection_id})


def read_connection(connection_id: str) -> Message:
    """A sync that is due or under way, on a queue of its own: what is asked for goes before it."""
    return Message("read_connection", {"connection_id": connection_id})


def sync_user(user_id: str, provider: str | None = None) -> Message:
    return Message("sync_user", {"user_id": user_id} | ({"provider": provider} if provider else {}))


def disconnect(connection_id: str) -> Message:
    return Message("disconnect", {"connection_id": connection_id})


def revoke_grant(revocation_id: str) -> Message:
    return Message("revoke_grant", {"revocation_id": revocation_id})


def publish_events() -> Message:
    return Message("publish_events", {})
