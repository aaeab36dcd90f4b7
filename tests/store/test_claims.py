"""What saving a connection does to its claims, and that SQL and the core agree on which client may be tried."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from models.messaging import messages
from models.oauth.breaker import begin_probe
from models.oauth.claims import Claims, released
from models.oauth.client import Cause, StoredClient
from models.store import Store
from models.store.connections import table
from models.sync.sync_run import RunStatus, SyncLease, SyncRun
from tests.store.conftest import add_connection, noon

later, latest = noon + timedelta(minutes=1), noon + timedelta(minutes=2)

saves: dict[str, tuple[Claims | None, tuple[datetime | None, datetime | None]]] = {
    "nothing said": (None, (None, None)),
    "both released": (released, (None, None)),
    "both unchanged": (Claims(), (later, later)),
    "only the refresh released": (Claims(refresh=None), (None, later)),
    "only the sync claimed": (Claims(sync=latest), (later, latest)),
}


ends_lease = {"nothing said", "both released", "only the sync claimed"}


@pytest.mark.parametrize("case", saves)
def test_saving_a_connection_writes_the_claims_that_it_is_given(store: Store, case: str) -> None:
    claims, expected = saves[case]
    connection = add_connection(store)
    with store.writing() as tx:
        tx.connections.save(connection, connection.generation, Claims(refresh=later, sync=later))
        if claims is None:
            tx.connections.save(connection, connection.generation)
        else:
            tx.connections.save(connection, connection.generation, claims)
        query = select(table.c.refresh_claimed_until, table.c.sync_claimed_until).where(table.c.id == connection.id)
        assert tuple(tx.sql.execute(query).one()) == expected


@pytest.mark.parametrize("case", saves)
def test_whoever_writes_the_claim_of_a_sync_ends_the_lease_of_a_run_that_is_not_stored(store: Store, case: str) -> None:
    claims, _ = saves[case]
    connection = add_connection(store)
    run = SyncRun("r1", connection.id, RunStatus.running, noon, lease_owner="me", lease_until=later)
    with store.writing() as tx:
        assert tx.runs.lease(run).count == 1
        assert tx.runs.under_way(connection.id) == (None, SyncLease("me", later, later))
        tx.connections.save(connection, connection.generation, *([] if claims is None else [claims]))
        assert (tx.runs.under_way(connection.id)[1] is None) == (case in ends_lease)


opened = StoredClient("breezedoc", "c", cause=Cause.unavailable, opened_at=noon, next_probe_at=noon, suspects=("c1",))
clients = {
    "closed": StoredClient("breezedoc", "c"),
    "open, its probe due": opened,
    "rejected, its probe due": replace(opened, cause=Cause.rejected),
    "open, its probe not due": replace(opened, next_probe_at=later),
    "paused by an operator": replace(opened, paused_at=noon),
    "paused and closed": StoredClient("breezedoc", "c", paused_at=noon),
}


@pytest.mark.parametrize("case", clients)
def test_the_database_finds_the_clients_that_may_be_probed(store: Store, case: str) -> None:
    client = clients[case]
    with store.writing() as tx:
        tx.clients.lock(client.provider, client.client_id)
        tx.clients.save(client)
        assert tx.clients.get(client.provider, client.client_id) == client
        may_leave = begin_probe(client, noon, later) is not None
        expected = [messages.probe_client("breezedoc", "c")] if may_leave else []
        assert tx.clients.claim_probes("breezedoc", noon, later) == expected
        assert tx.clients.claim_probes("breezedoc", noon, later) == [], "one message at a time"
        assert tx.due.void_claims(noon) == len(expected)
        assert tx.clients.claim_probes("breezedoc", noon, later) == expected
