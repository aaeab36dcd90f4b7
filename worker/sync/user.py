"""Sync all of a user's connections."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from models.audit.entry import Channel, received
from models.messaging import messages
from models.oauth.connection import Status
from models.store import Store
from models.store.requested_sync import request_sync


@dataclass(frozen=True, slots=True)
class SyncUser:
    """Make a sync due for each active connection of the user, and send one message for each."""

    store: Store
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]

    def __call__(self, user_id: str, provider: str | None, message_id: str | None = None) -> None:
        """Ask for the syncs; `message_id` is the application's message that asks."""
        with self.store.writing() as tx:
            now = self.now()
            found = tx.connections.find(user_id=user_id, provider=provider, status=Status.active.value)
            asked = [connection.id for connection in found if request_sync(tx, connection.id, now)]
            for each in asked:
                asked_for = {"message_id": message_id}
                tx.audit.add(received(Channel.message, "sync", asked_for, connection_id=each), now)
        if not asked:
            structlog.get_logger("sync_user").info("user.without_connection")
        for each in asked:
            self.send(messages.carry_out_sync(each))
