"""Which OAuth client a request is sent as, and what follows when the token endpoint accepts or rejects it."""

from dataclasses import dataclass, replace
from datetime import datetime

from models.crypto.vault import Place, Vault, VaultError
from models.errors import Permanent
from models.oauth.client import OAuthClient, StoredClient, predates_rejection, recover_client, reject_client
from models.oauth.token_response import Evidence
from models.store import Store, Transaction


class ClientUnknown(Permanent):
    """Neither the settings nor the database have this client's secret."""


@dataclass(frozen=True, slots=True)
class OAuthClients:
    """`configured` are the clients in the settings; the first one of a provider is for new authorizations."""

    store: Store
    vault: Vault
    configured: tuple[OAuthClient, ...]

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

    def keep_secrets(self) -> None:
        """Store the secret of every client that has none stored, so that no change of the settings loses one.

        A stored secret has worked once; only one that works itself replaces it.
        """
        with self.store.writing() as tx:
            for client in self.configured:
                stored = tx.clients.get(client.provider, client.client_id)
                if stored is None or stored.secret is None:
                    self._keep_secret(tx, client)

    def accept(self, tx: Transaction, provider: str, client_id: str, at: datetime) -> None:
        """The token endpoint accepted the client `at` that time: keep its secret and end its pause, if there is one."""
        stored = tx.clients.get(provider, client_id)
        if stored is not None and predates_rejection(stored, at):
            return
        for client in self.configured:
            named = (client.provider, client.client_id) == (provider, client_id)
            if named and (stored is None or not self._is_kept(stored, client)):
                self._keep_secret(tx, client)
        if stored is None or not stored.is_rejected:
            return
        # Race: several answers end the same pause; only the one that locks the client first publishes the event.
        recovered, facts = recover_client(tx.clients.lock(provider, client_id), at)
        tx.clients.save(recovered)
        tx.outbox.append(recovered.about, facts, at)

    def reject(self, tx: Transaction, provider: str, client_id: str, evidence: Evidence, now: datetime) -> datetime:
        """The token endpoint rejects the client: pause it and return until when."""
        rejected, facts = reject_client(tx.clients.lock(provider, client_id), evidence, now)
        tx.clients.save(rejected)
        tx.outbox.append(rejected.about, facts, now)
        return rejected.paused_until or now

    def _is_kept(self, stored: StoredClient, client: OAuthClient) -> bool:
        """Whether exactly this secret is stored; a stored one that no longer opens is replaced."""
        if stored.secret is None:
            return False
        try:
            return self.vault.open(stored.secret, place_of_secret(client.provider, client.client_id)) == (
                client.client_secret
            )
        except VaultError:
            return False

    def _keep_secret(self, tx: Transaction, client: OAuthClient) -> None:
        place = place_of_secret(client.provider, client.client_id)
        stored = tx.clients.lock(client.provider, client.client_id)
        tx.clients.save(replace(stored, secret=self.vault.seal(client.client_secret, place)))


def place_of_secret(provider: str, client_id: str) -> Place:
    return Place("client", f"{provider}/{client_id}", "secret")
