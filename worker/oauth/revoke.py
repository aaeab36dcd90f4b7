"""Revoke a grant at its provider (RFC 7009): try until it confirms, or for a day."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import structlog

from models.audit.entry import Entry, derived
from models.crypto.secrets import Secret
from models.crypto.vault import KeyServiceUnavailable, Vault, VaultError
from models.messaging import messages
from models.oauth.revocation import Revocation, RevocationEnd, begin_attempt, decide_end
from models.store import Store, Transaction
from worker.provider.client import Called, ProviderClient
from worker.tokens.data_keys import fetching_keys
from worker.tokens.oauth_clients import ClientUnknown, OAuthClients
from worker.tokens.revocation_queue import is_needed_again, place_of_grant


@dataclass(frozen=True, slots=True)
class Revoke:
    """One attempt. If it fails, the row is due again later; revoking twice is harmless (RFC 7009 §2.2)."""

    store: Store
    vault: Vault
    clients: OAuthClients
    providers: Mapping[str, ProviderClient]
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]

    def __call__(self, revocation_id: str) -> None:
        taken = self._load(revocation_id)
        if taken is None:
            return
        asked, now = self._ask(taken), self.now()
        end = decide_end(taken, asked is not None and asked.outcome, now)
        with self.store.writing() as tx:
            if asked is not None:
                tx.journal.log(asked.log_for(taken.connection_id or taken.id))
            if end is not None:
                self._apply(tx, taken, end, now)
        if end is not None:
            self.send(messages.publish_events())

    def _load(self, revocation_id: str) -> Revocation | None:
        """Save that an attempt begins; None if none is due.

        A grant that is needed again by now is left alone: some providers keep one for each user and client.
        """
        with self.store.writing() as tx:
            found = tx.revocations.lock(revocation_id)
            taken = None if found is None else begin_attempt(found, self.now())
            if taken is None:
                return None
            if is_needed_again(tx, taken):
                tx.revocations.end(taken.id)
                structlog.get_logger("revoke").info("grant.spared", provider=taken.provider)
                return None
            tx.revocations.save(taken)
        return taken

    def _ask(self, taken: Revocation) -> Called[bool] | None:
        """Return the provider's answer; None if it could not be asked."""
        provider = self.providers.get(taken.provider)
        if provider is None:
            return None
        try:
            client = self.clients.find(taken.provider, taken.client_id)
            token = self._open(taken)
        except (ClientUnknown, KeyServiceUnavailable, VaultError):
            return None
        return provider.revoke(client, token)

    @fetching_keys
    def _open(self, taken: Revocation) -> Secret:
        return self.vault.open(taken.token, place_of_grant(taken.id))

    def _apply(self, tx: Transaction, taken: Revocation, end: RevocationEnd, now: datetime) -> None:
        """Delete the token, and publish how the disconnect of its connection ended, once."""
        connection = None if taken.connection_id is None else tx.connections.lock(taken.connection_id)
        # The race: an authorization of the same account may have cancelled it meanwhile.
        if not tx.revocations.end(taken.id):
            return
        if connection is None:
            # The grant never became a connection; the journal has no subject for it.
            tx.audit.add(Entry(action=derived[end.verb], provider=taken.provider), now)
            return
        tx.outbox.append(connection.about, end.facts, now)
        tx.journal.decide(connection.id, now, end.verb, attempts=taken.attempts)
