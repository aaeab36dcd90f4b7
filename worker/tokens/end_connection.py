"""The one way a connection ends, whether its provider ended it or we did."""

from dataclasses import replace
from datetime import datetime

from models.messaging.events import Fact, ReauthorizationRequired
from models.oauth.connection import Transition
from models.oauth.credential import Credential
from models.store import Transaction


def end_connection(
    tx: Transaction,
    transition: Transition,
    credential: Credential | None,
    reason: str,
    now: datetime,
    path_prefix: str = "",
) -> None:
    """Save an ended connection (see `revoke` and `disconnect`), erase its tokens, end its run and add its events.

    The caller has locked the connection, and notes in the journal what it saw. `reason` is why the run ends. The
    credential's lease is saved as it is given. `path_prefix` goes before the path of a new
    connect link (see `Provider`).
    """
    connection, facts = transition
    facts = tuple(_place(fact, path_prefix) for fact in facts)
    tx.connections.save(connection, connection.generation)
    if credential is not None:
        tx.credentials.put(replace(credential, access_token=None, refresh_token=None))
    tx.runs.end(connection.id, reason)
    tx.outbox.append(connection.about, facts, now)


def _place(fact: Fact, path_prefix: str) -> Fact:
    """Return the fact with the path at which a browser finds us."""
    if isinstance(fact, ReauthorizationRequired):
        return replace(fact, connect_path=path_prefix + fact.connect_path)
    return fact
