"""Make a code exchange ready before its transaction: open what it sends, and take it from the token endpoint's budget.

As for a refresh (`worker/oauth/reserve.py`), the row that the whole fleet takes from is locked by a transaction that
waits for nothing else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from models.crypto.secrets import Sealed, Secret
from models.crypto.vault import Vault, VaultError
from models.oauth.authorization import Authorization, exchange_lease, place_of
from models.oauth.breaker import look_again_at
from models.oauth.client import OAuthClient
from models.oauth.exchange_outcome import PresentCode, plan_exchange
from models.store import Store, Transaction
from worker.oauth.reserve import Reserved
from worker.provider.client import ProviderClient
from worker.tokens.data_keys import fetching_keys
from worker.tokens.oauth_clients import ClientUnknown, OAuthClients


@dataclass(frozen=True, slots=True)
class OpenedCode:
    """What a code exchange sends: the client with its secret, the code, opened from `sealed`, and its verifier."""

    client: OAuthClient
    code: Secret
    verifier: Secret | None
    sealed: Sealed


@dataclass(frozen=True, slots=True)
class ReserveCode:
    """The step before an exchange's transaction. It decides nothing: the locked row is decided on.

    If that has changed meanwhile, a request was taken from the budget for nothing.
    """

    store: Store
    vault: Vault
    clients: OAuthClients
    providers: Mapping[str, ProviderClient]
    now: Callable[[], datetime]

    @fetching_keys
    def __call__(self, authorization_id: str) -> Reserved[OpenedCode] | None:
        """Return None if no code may leave now, or one can't; or on SQLite, which has one lock for everything."""
        if not self.store.locks_rows:
            return None
        with self.store.counting() as tx:
            now, found = self.now(), tx.authorizations.get(authorization_id)
            if found is None:
                return None
            plan = plan_exchange(found, uuid4().hex, exchange_lease, now, keeps_until(tx, found, now))
            if not isinstance(plan, PresentCode):
                return None
            try:
                opened = self.open(tx, found)
            except (ClientUnknown, VaultError):
                return None
            return Reserved(opened, self.take(tx, found, now), now)

    def open(self, tx: Transaction, found: Authorization) -> OpenedCode:
        """Open code, verifier and the client's secret. Raises `ClientUnknown` or `VaultError` if that can't be."""
        if found.code is None:
            raise AssertionError("an exchange was taken without a code")
        client = self.clients.find_in(tx, found.provider, found.client_id)
        code = self.vault.open(found.code, place_of(found.id, "code"))
        sealed = found.verifier
        verifier = None if sealed is None else self.vault.open(sealed, place_of(found.id, "verifier"))
        return OpenedCode(client, code, verifier, found.code)

    def take(self, tx: Transaction, found: Authorization, now: datetime) -> datetime | None:
        """Count the request; return when to try again if it may not be sent now."""
        per_minute = self.providers[found.provider].provider.token_requests_per_minute
        return tx.paces.take(found.provider, per_minute, "exchange", now)


def keeps_until(tx: Transaction, found: Authorization, now: datetime) -> datetime | None:
    """Return when the client's breaker is looked at again; None if it lets codes leave."""
    client = tx.clients.get(found.provider, found.client_id)
    return look_again_at(client, now) if client is not None and client.keeps_codes else None
