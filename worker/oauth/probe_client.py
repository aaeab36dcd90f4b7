"""Probe a token endpoint behind an open breaker, with a request that spends nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from models.crypto.vault import Vault
from models.messaging import messages
from models.oauth.breaker import begin_probe, postpone_probe, settle_probe
from models.oauth.client import OAuthClient
from models.oauth.token_response import ClientRefused, Evidence, TokenOutcome
from models.store import Store, Transaction
from worker.oauth.reserve import Reserved
from worker.provider.client import ProviderClient
from worker.tokens.data_keys import fetching_keys
from worker.tokens.oauth_clients import ClientUnknown, OAuthClients


@dataclass(frozen=True, slots=True)
class ProbeClient:
    """One probe. The next one's time is saved before it leaves: if its worker dies, the sweep sends another."""

    store: Store
    clients: OAuthClients
    providers: Mapping[str, ProviderClient]
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]

    def __call__(self, provider: str, client_id: str) -> None:
        if provider not in self.providers:
            return
        loaded = self.begin(provider, client_id)
        if loaded is None:
            return
        self.save(provider, client_id, *self.ask(provider, loaded))

    def save(self, provider: str, client_id: str, outcome: TokenOutcome, sent_at: datetime) -> None:
        """Close the breaker, or say when the next probe is due."""
        with self.store.writing() as tx:
            client = tx.clients.lock(provider, client_id)
            now = self.now()
            settled, facts = settle_probe(client, outcome, sent_at, now)
            self.clients.save(tx, settled, facts, now)
        if facts:
            self.send(messages.publish_events())

    @property
    def vault(self) -> Vault:
        return self.clients.vault

    @fetching_keys
    def begin(self, provider: str, client_id: str) -> OAuthClient | ClientUnknown | None:
        """Reserve the probe, and a request of the fleet's budget; None if it may not leave now."""
        speaker = self.providers[provider]
        reserved = self._reserve(provider, client_id)
        with self.store.writing() as tx:
            if tx.clients.get(provider, client_id) is None:
                return None
            # Race: the message came twice; only the one that locks the client first probes it.
            found = tx.clients.lock(provider, client_id)
            now = self.now()
            begun = begin_probe(found, now, now + speaker.patience.lease)
            if begun is None:
                return None
            try:
                if reserved is None or not reserved.is_fresh(now):
                    reserved = self._take(tx, provider, client_id, now)
            except ClientUnknown as unknown:
                tx.clients.save(begun)
                return unknown
            tx.clients.save(begun if reserved.wait is None else postpone_probe(begun, reserved.wait))
        return reserved.opened if reserved.wait is None else None

    def _reserve(self, provider: str, client_id: str) -> Reserved[OAuthClient] | None:
        """Take a due probe from the budget, in a transaction that waits for nothing else; None on SQLite, which has one
        lock for everything."""
        if not self.store.locks_rows:
            return None
        with self.store.counting() as tx:
            now, found = self.now(), tx.clients.get(provider, client_id)
            if found is None or begin_probe(found, now, now) is None:
                return None
            try:
                return self._take(tx, provider, client_id, now)
            except ClientUnknown:
                return None

    def _take(self, tx: Transaction, provider: str, client_id: str, now: datetime) -> Reserved[OAuthClient]:
        """Find the client and count the request. Raises `ClientUnknown`; then nothing is counted."""
        client = self.clients.find_in(tx, provider, client_id)
        per_minute = self.providers[provider].provider.token_requests_per_minute
        return Reserved(client, tx.paces.take(provider, per_minute, "probe", now), now)

    def ask(self, provider: str, client: OAuthClient | ClientUnknown) -> tuple[TokenOutcome, datetime]:
        if isinstance(client, ClientUnknown):
            return ClientRefused(Evidence(error="client_unknown", description=str(client))), self.now()
        called = self.providers[provider].probe(client)
        return called.outcome, called.at
