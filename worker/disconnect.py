"""Letting go of an account: tokens erased at once, revoked upstream where there is an endpoint."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from models import messages
from models.connection import Status, disconnect
from models.store import Store, Transaction
from models.vault import Place, Vault
from worker.client_book import ClientBook
from worker.provider_client import ProviderClient


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Asks the provider first, within a deadline; whatever it answers, no token is left here."""

    store: Store
    vault: Vault
    clients: ClientBook
    providers: Mapping[str, ProviderClient]
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]

    def __call__(self, connection_id: str, erase: bool = False) -> None:
        with self.store.reading() as tx:
            connection, credential = tx.connections.get(connection_id), tx.credentials.get(connection_id)
        if connection is None:
            return
        if connection.status is Status.disconnected:
            self._erase_more(connection_id, erase)
            return
        revoked_upstream = False
        provider = self.providers.get(connection.provider)
        token = credential.refresh_token if credential is not None else None
        if provider is not None and provider.provider.revoke_url and token is not None:
            client = self.clients.find(connection.provider, connection.client_id)
            secret = self.vault.open(token, Place("credential", connection.id, "refresh_token"))
            revoked_upstream = provider.revoke(client, secret)
        with self.store.writing() as tx:
            found, credential = tx.connections.lock(connection_id), tx.credentials.get(connection_id)
            if found is None:
                return
            now = self.now()
            ended, facts = disconnect(found, now, revoked_upstream)
            tx.connections.save(ended, found.generation)
            if credential is not None:
                tx.credentials.put(replace(credential, access_token=None, refresh_token=None))
            tx.runs.end(connection_id, "disconnected")
            tx.outbox.append(found.about, facts, now)
            tx.journal.decide(connection_id, now, "disconnected", revoked_upstream=revoked_upstream)
            self._erase(tx, connection_id, erase)
        self.send(messages.publish_events())

    def _erase_more(self, connection_id: str, erase: bool) -> None:
        """For one that was disconnected before: its records go where this request, or one still due, asks for it."""
        with self.store.writing() as tx:
            found = tx.connections.lock(connection_id)
            if found is not None and found.status is Status.disconnected:
                self._erase(tx, connection_id, erase)

    def _erase(self, tx: Transaction, connection_id: str, erase: bool) -> None:
        if tx.connections.take_disconnect(connection_id) or erase:
            tx.journal.decide(connection_id, self.now(), "records.erased", records=tx.records.erase(connection_id))
