"""What someone asks for a connection: decided by its row, and made due in the transaction that has the audit's line."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from models.audit.entry import Channel, received
from models.messaging import messages
from models.messaging.messages import Message
from models.oauth.connection import Connection, Status
from models.store import Transaction
from models.store.requested_sync import request_sync

Command = Literal["refresh", "sync", "disconnect"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that can be carried out."""

    command: Command
    connection_id: str
    erase: bool = False


@dataclass(frozen=True, slots=True)
class NotPossible:
    """Why a request can't be carried out.

    why: "unknown", "not_active" or "not_confirmed".
    """

    why: Literal["unknown", "not_active", "not_confirmed"]


Decision = Asked | NotPossible


def decide(connection: Connection | None, command: Command, erase: bool, confirmation: str | None) -> Decision:
    """Decide a request. A disconnect can't be undone: its `confirmation` has to be the user's id."""
    if connection is None:
        return NotPossible("unknown")
    if command == "disconnect":
        if confirmation != connection.user_id:
            return NotPossible("not_confirmed")
        return Asked(command, connection.id, erase)
    if connection.status is not Status.active:
        return NotPossible("not_active")
    return Asked(command, connection.id)


def carry_out(tx: Transaction, asked: Asked, channel: Channel, now: datetime) -> bool:
    """Make it due, with its line in the audit; return False, and write neither, if that would change nothing.

    A refresh is asked for once a minute, and only with a refresh token. Send `message_of` after the commit.
    """
    match asked.command:
        case "refresh":
            done = tx.connections.request_refresh(asked.connection_id, now)
        case "sync":
            done = request_sync(tx, asked.connection_id, now)
        case "disconnect":
            done = tx.connections.request_disconnect(asked.connection_id, now, asked.erase)
    if done:
        detail: Mapping[str, object] = {"erase": asked.erase} if asked.command == "disconnect" else {}
        tx.audit.add(received(channel, asked.command, detail, connection_id=asked.connection_id), now)
    return done


def message_of(asked: Asked) -> Message:
    """Return the message that has a worker do now what is due."""
    return _messages[asked.command](asked.connection_id)


_messages: Final = {
    "refresh": messages.carry_out_refresh,
    "sync": messages.carry_out_sync,
    "disconnect": messages.carry_out_disconnect,
}
