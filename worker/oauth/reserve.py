"""Make a token request ready before its transaction: open what it sends, and take it from the endpoint's budget.

The whole fleet takes from one row for each provider. On PostgreSQL that row is locked by a transaction of its own,
which waits for nothing else and is over before the one that commits the intent. This is done for a refresh here, for a
code in `reserve_code.py` and for a probe in `probe_client.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from models.crypto.secrets import Sealed, Secret
from models.crypto.vault import Vault, VaultError
from models.oauth.client import OAuthClient
from models.oauth.credential import Present, place_of_token, plan_refresh
from models.store import Store, Transaction
from models.store.connections import Refreshable
from worker.provider.client import ProviderClient
from worker.tokens.data_keys import fetching_keys
from worker.tokens.oauth_clients import ClientUnknown, OAuthClients

Sent = TypeVar("Sent")
longest_wait = timedelta(seconds=1)
"""How long what was reserved may wait for the lock of its row."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What a refresh sends: the client with its secret, and the refresh token, opened from `sealed`.

    No text is ever sealed twice alike: if another one is stored now, what was opened is not the newest.
    """

    client: OAuthClient
    refresh_token: Secret
    sealed: Sealed


@dataclass(frozen=True, slots=True)
class Reserved(Generic[Sent]):
    """What was opened for a request, and taken from the budget; it has to wait if `wait` is not None.

    at: when it was taken, and the client's breaker looked at.
    """

    opened: Sent
    wait: datetime | None
    at: datetime

    def is_fresh(self, now: datetime) -> bool:
        """Return whether it still holds.

        Race: a job waits for the lock of its row while the breaker opens, a 429 pauses the endpoint, or the second
        passes in which its request was counted.
        """
        return now - self.at < longest_wait


@dataclass(frozen=True, slots=True)
class Reserve:
    """The step before a refresh's transaction. It decides nothing: that is decided by the locked rows.

    If they have changed meanwhile, a request was taken from the budget for nothing.
    """

    store: Store
    vault: Vault
    clients: OAuthClients
    providers: Mapping[str, ProviderClient]
    now: Callable[[], datetime]

    @fetching_keys
    def __call__(self, connection_id: str) -> Reserved[Opened] | None:
        """Return None if no request may leave now, or one can't; or on SQLite, where the transaction that writes the
        intent has the only lock there is."""
        if not self.store.locks_rows:
            return None
        with self.store.counting() as tx:
            now, found = self.now(), tx.connections.get_refreshable(connection_id)
            if found is None or found.credential.refresh_token is None or is_kept_back(found):
                return None
            provider = self.providers[found.connection.provider]
            plan = plan_refresh(found.connection, found.credential, now, provider.patience.settle)
            if not isinstance(plan, Present):
                return None
            try:
                opened = self.open(tx, found)
            except (ClientUnknown, VaultError):
                return None
            profile = provider.provider
            wait = tx.paces.take(profile.name, profile.token_requests_per_minute, "refresh", now)
            return Reserved(opened, wait, now)

    def open(self, tx: Transaction, found: Refreshable) -> Opened:
        """Open the client's secret and the refresh token. Raises `ClientUnknown` or `VaultError` if that can't be."""
        connection, sealed = found.connection, found.credential.refresh_token
        if sealed is None:
            raise AssertionError("a connection without a refresh token was to be refreshed")
        self.clients.require_secret(found.client)
        client = self.clients.find_in(tx, connection.provider, connection.client_id)
        return Opened(client, self.vault.open(sealed, place_of_token(connection, "refresh_token")), sealed)


def is_kept_back(found: Refreshable) -> bool:
    """Return whether the breaker of the connection's client is open."""
    return found.client is not None and found.client.is_open
