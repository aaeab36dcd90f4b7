"""Make a sync due because someone asked for it, however that came."""

from dataclasses import replace
from datetime import datetime

from models.oauth.claims import unchanged_claims
from models.oauth.connection import Status
from models.store.transaction import Transaction


def request_sync(tx: Transaction, connection_id: str, now: datetime) -> bool:
    """Make a full sync due now, or as soon as a running one ends; return False if the connection is not active."""
    connection = tx.connections.lock(connection_id)
    if connection is None or connection.status is not Status.active:
        return False
    requested = replace(connection, sync_requested=True)
    if tx.runs.running(connection_id) is not None:
        tx.connections.save(requested, connection.generation, unchanged_claims)
        return True
    tx.connections.save(replace(requested, sync_due_at=now), connection.generation)
    return True
