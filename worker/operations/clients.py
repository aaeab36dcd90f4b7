"""The OAuth clients as an operator sees them, and what an operator decides: pause, resume, hold, release, accept."""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime

from models.audit.entry import Action, Entry
from models.oauth.client import StoredClient
from models.oauth.connection import personal_client
from models.provider import Provider
from models.store import Store, Transaction
from worker.oauth.hold import HoldByOperator


def state_of(client: StoredClient) -> str:
    """Return closed, rejected, unavailable or paused."""
    if client.paused_at is not None:
        return "paused"
    return "closed" if client.cause is None else client.cause.value


def describe_client(client: StoredClient, tx: Transaction) -> Mapping[str, object]:
    """Return what an operator may know of a client: never its secret."""
    hold = tx.refusals.hold(client.provider, client.client_id)
    return {
        "held": tx.refusals.count_held(client.provider, client.client_id),
        "held_since": None if hold is None else hold.opened_at,
        "next_trial_at": None if hold is None else hold.next_trial_at,
        "provider": client.provider,
        "client_id": client.client_id,
        "state": state_of(client),
        "since": client.paused_at or client.opened_at,
        "error": client.error,
        "status": client.status,
        "next_probe_at": client.next_probe_at,
        "probes": client.probes,
    }


def change_clients(
    tx: Transaction,
    provider: str,
    configured: Collection[str],
    change: Callable[[StoredClient, datetime], StoredClient],
    action: Action,
) -> list[StoredClient]:
    """Change every client of a provider, stored or in the settings, with a line in the audit; none if there is none."""
    known = {client.client_id for client in tx.clients.all(provider)} - {personal_client}
    changed: list[StoredClient] = []
    for client_id in sorted(known | set(configured)):
        now = tx.overview.time()
        client = change(tx.clients.lock(provider, client_id), now)
        tx.clients.save(client)
        tx.audit.add(Entry(action=action, provider=provider, detail={"client_id": client_id}), now)
        changed.append(client)
    return changed


def decide_holds(
    store: Store, provider: Provider, configured: Collection[str], act: Callable[[HoldByOperator, str], int | None]
) -> dict[str, int]:
    """Hold, release or accept for every client of a provider; return how many connections of each it concerned."""
    with store.reading() as tx:
        ids = {client.client_id for client in tx.clients.all(provider.name)} | set(configured)
        if tx.connections.has_client(provider.name, personal_client):
            ids.add(personal_client)
    counts = {client_id: act(HoldByOperator(store, provider), client_id) for client_id in sorted(ids)}
    return {client_id: count for client_id, count in counts.items() if count is not None}
