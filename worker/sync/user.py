"""Sync all of a user's connections."""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from models.messaging import messages
from models.oauth.connection import Status
from models.store import Store


@dataclass(frozen=True, slots=True)
class SyncUser:
    """Send one message for each active connection of the user."""

    store: Store
    send: Callable[[messages.Message], None]

    def __call__(self, user_id: str, provider: str | None) -> None:
        with self.store.reading() as tx:
            found = tx.connections.find(user_id=user_id, provider=provider, status=Status.active.value)
        if not found:
            structlog.get_logger("sync_user").info("user.without_connection")
        for connection in found:
            self.send(messages.sync_connection(connection.id))
