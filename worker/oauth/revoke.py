"""Telling a provider that a grant has ended (RFC 7009): tried until it confirms, or for a day."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from models.crypto.vault import Vault, VaultError
from models.messaging import messages
from models.messaging.events import ConnectionDisconnected
from models.oauth.revocation import Revocation, begin_attempt, is_over
from models.store import Store, Transaction
from worker.provider.client import Called, ProviderClient
from worker.tokens.oauth_clients import ClientUnknown, OAuthClients
from worker.tokens.revocation_queue import place_of_token


@dataclass(frozen=True, slots=True)
class Revoke:
    """One attempt. What fails comes back by its due time; asking twice does no harm (RFC 7009 §2.2)."""

    store: Store
    vault: Vault
    clients: OAuthClients
    providers: Mapping[str, ProviderClient]
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]

    def __call__(self, revocation_id: str) -> None:
        with self.store.writing() as tx:
            found = tx.revocations.lock(revocation_id)
            taken = None if found is None else begin_attempt(found, self.now())
            if taken is None:
                return
            tx.revocations.save(taken)
        asked = self._ask(taken)
        confirmed = asked is not None and asked.outcome
        is_done = confirmed or is_over(taken, self.now())
        with self.store.writing() as tx:
            if asked is not None:
                tx.journal.log(asked.log_for(taken.connection_id or taken.id))
            if is_done:
                self._end(tx, taken, confirmed)
        if is_done:
            self.send(messages.publish_events())

    def _ask(self, taken: Revocation) -> Called[bool] | None:
        """None where nobody could be asked."""
        provider = self.providers.get(taken.provider)
        if provider is None:
            return None
        try:
            client = self.clients.find(taken.provider, taken.client_id)
            token = self.vault.open(taken.token, place_of_token(taken.id))
        except (ClientUnknown, VaultError):
            return None
        return provider.revoke(client, token)

    def _end(self, tx: Transaction, taken: Revocation, confirmed: bool) -> None:
        """The token goes; the connection it belonged to says how its disconnect ended, and only once."""
        connection = None if taken.connection_id is None else tx.connections.lock(taken.connection_id)
        if not tx.revocations.end(taken.id) or connection is None:
            return
        now = self.now()
        if taken.tells:
            tx.outbox.append(connection.about, [ConnectionDisconnected(revoked_upstream=confirmed)], now)
        verb = "revoked.upstream" if confirmed else "revoked.upstream_unconfirmed"
        tx.journal.decide(connection.id, now, verb, attempts=taken.attempts)
