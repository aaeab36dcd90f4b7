"""Make a sync due because someone asked for it, however that came."""

from datetime import datetime

from models.oauth.connection import Status
from models.store.transaction import Transaction


def request_sync(tx: Transaction, connection_id: str, now: datetime) -> bool:
    """Make a full sync due now, or as soon as a running one ends; return False if the connection is not active."""
    connection = tx.connections.lock(connection_id)
    if connection is None or connection.status is not Status.active:
        return False
    is_running = tx.runs.is_under_way(connection_id, now)
    tx.connections.request_sync(connection_id, None if is_running else now)
    return True
