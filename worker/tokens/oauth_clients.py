"""Which OAuth client a request is sent as, and what follows when the token endpoint accepts or rejects it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from models.crypto.vault import KeyNotAtHand, Place, Vault, VaultError
from models.errors import Permanent
from models.messaging.events import Fact, data_of
from models.oauth.breaker import Proof, Sighting, accept, observe, proof_of
from models.oauth.client import OAuthClient, StoredClient
from models.store import Store, Transaction
from worker.tokens.data_keys import fetching_keys


class ClientUnknown(Permanent):
    """Neither the settings nor the database have this client's secret."""


@dataclass(frozen=True, slots=True)
class OAuthClients:
    """`configured` are the clients in the settings; the first one of a provider is for new authorizations."""

    store: Store
    vault: Vault
    configured: tuple[OAuthClient, ...]

    @fetching_keys
    def find(self, provider: str, client_id: str) -> OAuthClient:
        """Return the client by its id. Raises `ClientUnknown`, also if its stored secret does not open."""
        with self.store.reading() as tx:
            return self.find_in(tx, provider, client_id)

    def find_in(self, tx: Transaction, provider: str, client_id: str) -> OAuthClient:
        """Like `find`, in a transaction of the caller; a secret in the settings wins over a stored one."""
        for client in self.configured:
            if (client.provider, client.client_id) == (provider, client_id):
                return client
        stored = tx.clients.get(provider, client_id)
        newest = next((client for client in self.configured if client.provider == provider), None)
        if stored is None or stored.secret is None or newest is None:
            raise ClientUnknown(
                f"no secret is known for client {client_id} of {provider}: put it back into the settings"
            )
        try:
            secret = self.vault.open(stored.secret, place_of_secret(provider, client_id))
        except VaultError as error:
            raise ClientUnknown(
                f"the kept secret of client {client_id} of {provider} can't be opened: {error}"
            ) from error
        return replace(newest, client_id=client_id, client_secret=secret)

    @fetching_keys
    def keep_secrets(self) -> None:
        """Store the secret of every client that has none stored, so that no change of the settings loses one.

        A stored secret has worked once; only one that works itself replaces it.
        """
        with self.store.writing() as tx:
            for client in self.configured:
                stored = tx.clients.get(client.provider, client.client_id)
                if stored is None or stored.secret is None:
                    self._keep_secret(tx, client)
                else:
                    self.require_secret(stored)

    def require_secret(self, stored: StoredClient | None) -> None:
        """Make sure, before a token leaves, that `accept` can compare the stored secret. Raises `KeyNotAtHand`."""
        if stored is not None and stored.secret is not None:
            self.vault.require(stored.secret)

    def accept(self, tx: Transaction, provider: str, client_id: str, at: datetime) -> None:
        """The token endpoint answered for a token at that time: keep the secret, and close an open breaker."""
        self.accept_known(tx, tx.clients.get(provider, client_id) or StoredClient(provider, client_id), at)

    def accept_known(self, tx: Transaction, stored: StoredClient, at: datetime) -> None:
        """Like `accept`, of a client that this transaction has read already."""
        provider, client_id = stored.provider, stored.client_id
        if stored.opened_at is not None and at < stored.opened_at:
            return
        for client in self.configured:
            named = (client.provider, client.client_id) == (provider, client_id)
            if named and not self._is_kept(stored, client):
                self._keep_secret(tx, client)
        if stored.cause is None and not stored.suspects and not stored.probes:
            return
        # Race: several answers close the same breaker; only the one that locks the client first publishes the event.
        accepted, facts = accept(tx.clients.lock(provider, client_id), at)
        self.save(tx, accepted, facts, at)

    def observe(self, tx: Transaction, provider: str, client_id: str, sighting: Sighting, now: datetime) -> None:
        """Open or close the breaker as the answer to a request shows."""
        match proof_of(sighting.outcome):
            case Proof.accepted:
                self.accept(tx, provider, client_id, now)
            case Proof.nothing:
                pass
            case _:
                seen, facts = observe(tx.clients.lock(provider, client_id), sighting, now)
                self.save(tx, seen, facts, now)

    def save(self, tx: Transaction, client: StoredClient, facts: Sequence[Fact], now: datetime) -> None:
        """Write a client that the caller has locked, with the events of its change."""
        tx.clients.save(client)
        tx.outbox.append(client.about, facts, now)
        for fact in facts:
            structlog.get_logger("breaker").warning(fact.type, provider=client.provider, **data_of(fact))

    def _is_kept(self, stored: StoredClient, client: OAuthClient) -> bool:
        """Whether exactly this secret is stored; a stored one that no longer opens is replaced.

        If its data key is not at hand it counts as kept: what is saved now must wait for nothing, and the next
        request fetches the key first.
        """
        if stored.secret is None:
            return False
        try:
            return self.vault.open(stored.secret, place_of_secret(client.provider, client.client_id)) == (
                client.client_secret
            )
        except KeyNotAtHand:
            return True
        except VaultError:
            return False

    def _keep_secret(self, tx: Transaction, client: OAuthClient) -> None:
        place = place_of_secret(client.provider, client.client_id)
        stored = tx.clients.lock(client.provider, client.client_id)
        tx.clients.save(replace(stored, secret=self.vault.seal(client.client_secret, place)))


def place_of_secret(provider: str, client_id: str) -> Place:
    return Place("client", f"{provider}/{client_id}", "secret")
