"""Which OAuth client a request goes out as, and what its trouble means: ours, never a user's."""

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from models.errors import Permanent
from models.events import About, ClientRecovered, ClientRejected
from models.provider import OAuthClient
from models.store import Store, Transaction
from models.token_response import Evidence
from models.vault import Place, Vault, VaultError


class ClientUnknown(Permanent):
    """Neither the settings nor the database know this client's secret."""


@dataclass(frozen=True, slots=True)
class ClientBook:
    """`configured` are the settings' clients; of several of one provider the first is for new authorizations."""

    store: Store
    vault: Vault
    configured: tuple[OAuthClient, ...]

    def find(self, provider: str, client_id: str) -> OAuthClient:
        """The client by its id. Raises `ClientUnknown`, or `VaultError` where its secret does not open."""
        with self.store.reading() as tx:
            return self.find_in(tx, provider, client_id)

    def find_in(self, tx: Transaction, provider: str, client_id: str) -> OAuthClient:
        """As `find`, within a transaction that is under way."""
        for client in self.configured:
            if (client.provider, client.client_id) == (provider, client_id):
                return client
        stored = tx.clients.get(provider, client_id)
        newest = next((client for client in self.configured if client.provider == provider), None)
        if stored is None or stored.secret is None or newest is None:
            raise ClientUnknown(
                f"no secret is known for client {client_id} of {provider}: put it back into the settings"
            )
        secret = self.vault.open(stored.secret, place_of_secret(provider, client_id))
        return replace(newest, client_id=client_id, client_secret=secret)

    def remember(self, tx: Transaction, client: OAuthClient) -> None:
        """Keeps the secret sealed, so that the client's connections outlive its place in the settings.

        One that stands there and can't be opened any more gives way.
        """
        stored = tx.clients.get(client.provider, client.client_id)
        place = place_of_secret(client.provider, client.client_id)
        if stored is not None and stored.secret is not None:
            with suppress(VaultError):
                if self.vault.open(stored.secret, place) == client.client_secret:
                    return
        tx.clients.put_secret(client.provider, client.client_id, self.vault.seal(client.client_secret, place))

    def reject(
        self,
        tx: Transaction,
        provider: str,
        client_id: str,
        evidence: Evidence,
        pauses: tuple[timedelta, ...],
        now: datetime,
    ) -> datetime:
        """The token endpoint refuses the client: pauses it and says so once; returns when one request may try again."""
        tx.clients.ensure(provider, client_id)
        stored = tx.clients.get(provider, client_id)
        probes = 0 if stored is None else stored.probes
        until = now + pauses[min(probes, len(pauses) - 1)]
        error = evidence.error or f"http_{evidence.status}"
        if tx.clients.reject(provider, client_id, error, now, until, probes + 1):
            fact = ClientRejected(client_id, error, evidence.description)
            tx.outbox.append(About(provider, other_subject=f"client/{client_id}"), [fact], now)
        return until

    def recover(self, tx: Transaction, provider: str, client_id: str, now: datetime) -> None:
        """The token endpoint took the client: a pause ends, and is said to have ended once."""
        stored = tx.clients.get(provider, client_id)
        if stored is None or stored.rejected_at is None or not tx.clients.recover(provider, client_id):
            return
        fact = ClientRecovered(client_id, stored.rejected_error or "", "the token endpoint takes the client again")
        tx.outbox.append(About(provider, other_subject=f"client/{client_id}"), [fact], now)


def place_of_secret(provider: str, client_id: str) -> Place:
    return Place("client", f"{provider}/{client_id}", "secret")
