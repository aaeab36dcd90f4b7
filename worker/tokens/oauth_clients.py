"""Which OAuth client a request goes out as, and what its trouble means: ours, never a user's."""

from dataclasses import dataclass, replace
from datetime import datetime

from models.crypto.vault import Place, Vault, VaultError
from models.errors import Permanent
from models.messaging.events import About, ClientRecovered, ClientRejected
from models.oauth.refresh_policy import client_pause
from models.oauth.token_response import Evidence
from models.provider import OAuthClient
from models.store import Store, Transaction
from models.store.clients import StoredClient


class ClientUnknown(Permanent):
    """Neither the settings nor the database know this client's secret."""


@dataclass(frozen=True, slots=True)
class ClientBook:
    """`configured` are the settings' clients; of several of one provider the first is for new authorizations."""

    store: Store
    vault: Vault
    configured: tuple[OAuthClient, ...]

    def find(self, provider: str, client_id: str) -> OAuthClient:
        """The client by its id. Raises `ClientUnknown`, also where its kept secret does not open."""
        with self.store.reading() as tx:
            return self.find_in(tx, provider, client_id)

    def find_in(self, tx: Transaction, provider: str, client_id: str) -> OAuthClient:
        """As `find`, within a transaction that is under way; the settings' secret comes before one that was kept."""
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
        """Keeps the secret of every client that has none kept yet, so that none is lost to a change of the settings.

        A secret that is kept already proved good once; only one that proves good itself takes its place.
        """
        with self.store.writing() as tx:
            for client in self.configured:
                stored = tx.clients.get(client.provider, client.client_id)
                if stored is None or stored.secret is None:
                    self._keep_secret(tx, client)

    def accept(self, tx: Transaction, provider: str, client_id: str, now: datetime) -> None:
        """The token endpoint took the client: its secret is kept, and a pause ends and is said to have ended once.

        What it took before it refused, and what is only heard of now, tells nothing.
        """
        stored = tx.clients.get(provider, client_id)
        if stored is not None and stored.rejected_at is not None and now < stored.rejected_at:
            return
        for client in self.configured:
            named = (client.provider, client.client_id) == (provider, client_id)
            if named and (stored is None or not self._is_kept(stored, client)):
                self._keep_secret(tx, client)
        if stored is None or not stored.is_rejected or not tx.clients.recover(provider, client_id):
            return
        fact = ClientRecovered(client_id, stored.rejected_error or "", "the token endpoint takes the client again")
        tx.outbox.append(_about(provider, client_id), [fact], now)

    def reject(self, tx: Transaction, provider: str, client_id: str, evidence: Evidence, now: datetime) -> datetime:
        """The token endpoint refuses the client: pauses it and says so once; returns until when.

        During a pause more refusals are no news: they were on their way before it, or have a user waiting for them.
        """
        stored = tx.clients.lock(provider, client_id)
        if stored.paused_until is not None and stored.paused_until > now:
            return stored.paused_until
        until = now + client_pause(stored.probes)
        error = evidence.error or f"http_{evidence.status}"
        tx.clients.reject(stored, error, now, until)
        if not stored.is_rejected:
            tx.outbox.append(_about(provider, client_id), [ClientRejected(client_id, error, evidence.description)], now)
        return until

    def _is_kept(self, stored: StoredClient, client: OAuthClient) -> bool:
        """Whether it is this secret that stands there; one that can't be opened any more gives way."""
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
        tx.clients.put_secret(client.provider, client.client_id, self.vault.seal(client.client_secret, place))


def place_of_secret(provider: str, client_id: str) -> Place:
    return Place("client", f"{provider}/{client_id}", "secret")


def _about(provider: str, client_id: str) -> About:
    return About(provider, other_subject=f"client/{client_id}")
