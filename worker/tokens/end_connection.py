"""The one way a connection ends, whether its provider ended it or we did."""

from dataclasses import replace
from datetime import datetime

from models.oauth.connection import Transition
from models.oauth.credential import Credential
from models.store import Transaction


def end_connection(
    tx: Transaction, transition: Transition, credential: Credential | None, reason: str, now: datetime
) -> None:
    """Save an ended connection (see `revoke` and `disconnect`), erase its tokens, end its run and add its events.

    The caller has locked the connection, and notes in the journal what it saw. `reason` is why the run ends. The
    credential's lease is saved as it is given.
    """
    connection, facts = transition
    tx.connections.save(connection, connection.generation)
    if credential is not None:
        tx.credentials.put(replace(credential, access_token=None, refresh_token=None))
    tx.runs.end(connection.id, reason)
    tx.outbox.append(connection.about, facts, now)
