"""Add an endpoint and replace its secret: what needs a key, each with its line in the audit."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit
from uuid import uuid4

from models.audit.entry import Action, Entry
from models.crypto.secrets import Sealed, Secret
from models.crypto.vault import Vault
from models.store import Store
from models.webhooks import endpoint as rules
from models.webhooks.endpoint import Endpoint
from models.webhooks.signature import make_secret
from worker.tokens.data_keys import fetching_keys
from worker.webhooks.deliver import place_of
from worker.webhooks.states import States


class NameTaken(Exception):
    """There is an endpoint of that name."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The endpoints of webhooks, and their secrets. What needs no key is in `States`.

    Each method raises `KeyServiceUnavailable` or `VaultError` if a secret can't be sealed or opened.
    """

    store: Store
    vault: Vault

    @fetching_keys
    def add(self, name: str, url: str, types: tuple[str, ...], allow_private: bool) -> tuple[Endpoint, Secret]:
        """Store an endpoint and return it with its secret. Raises `NameTaken`."""
        webhook_id, secret = uuid4().hex, make_secret()
        sealed = self.vault.seal(secret, place_of(webhook_id, "secret"))
        with self.store.writing() as tx:
            now = tx.overview.time()
            if tx.webhooks.named(name) is not None:
                raise NameTaken(name)
            made = Endpoint(
                id=webhook_id,
                name=name,
                url=url,
                types=types,
                secret=sealed,
                created_at=now,
                allow_private=allow_private,
            )
            tx.webhooks.add(made)
            # Paths and queries of such URLs are secrets with many services, and no line of the audit can be taken back.
            detail = {"webhook": name, "host": urlsplit(url).netloc}
            tx.audit.add(Entry(action=Action.webhook_added, detail=detail), now)
        return made, secret

    @fetching_keys
    def rotate(self, name: str, overlap: timedelta) -> tuple[Endpoint, Secret] | None:
        """Replace the secret, and return the endpoint with the new one; None if there is none of that name.

        The one before signs as well for that long.
        """
        secret = make_secret()

        def change(endpoint: Endpoint, now: datetime) -> Endpoint:
            before = self.vault.open(endpoint.secret, place_of(endpoint.id, "secret"))
            sealed, previous = self._seal(endpoint, secret, "secret"), self._seal(endpoint, before, "previous_secret")
            return rules.rotate(endpoint, sealed, previous, now, overlap)

        rotated = States(self.store).change(name, change, Action.webhook_rotated)
        return None if rotated is None else (rotated, secret)

    def _seal(self, endpoint: Endpoint, secret: Secret, field_name: str) -> Sealed:
        return self.vault.seal(secret, place_of(endpoint.id, field_name))
