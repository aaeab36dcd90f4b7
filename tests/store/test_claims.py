"""What saving a connection does to its claims, and that SQL and the core agree on which client may be tried."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from models.oauth.claims import Claims, released
from models.oauth.client import StoredClient, may_be_probed
from models.store import Store
from models.store.connections import table
from tests.store.conftest import add_connection, noon

later, latest = noon + timedelta(minutes=1), noon + timedelta(minutes=2)

saves: dict[str, tuple[Claims | None, tuple[datetime | None, datetime | None]]] = {
    "nothing said": (None, (None, None)),
    "both released": (released, (None, None)),
    "both unchanged": (Claims(), (later, later)),
    "only the refresh released": (Claims(refresh=None), (None, later)),
    "only the sync claimed": (Claims(sync=latest), (later, latest)),
}


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


clients = {
    "accepted": StoredClient("breezedoc", "c"),
    "in its pause": StoredClient("breezedoc", "c", rejected_at=noon, paused_until=later),
    "its pause over": StoredClient("breezedoc", "c", rejected_at=noon, paused_until=noon),
    "being tried": StoredClient("breezedoc", "c", rejected_at=noon, paused_until=noon, probing_until=later),
    "tried long ago": StoredClient("breezedoc", "c", rejected_at=noon, paused_until=noon, probing_until=noon),
}


@pytest.mark.parametrize("case", clients)
def test_the_database_finds_the_clients_that_may_be_tried(store: Store, case: str) -> None:
    client = clients[case]
    with store.writing() as tx:
        tx.clients.lock(client.provider, client.client_id)
        tx.clients.save(client)
        assert tx.clients.get(client.provider, client.client_id) == client
        assert tx.clients.probeable("breezedoc", noon) == (["c"] if may_be_probed(client, noon) else [])
