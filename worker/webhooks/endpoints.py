"""Add, change, try and remove the endpoints of webhooks, each with its line in the audit."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit
from uuid import uuid4

from models.audit.entry import Action, Entry
from models.crypto.secrets import Sealed, Secret
from models.crypto.vault import Vault
from models.messaging.events import type_prefix
from models.store import Store, Transaction
from models.webhooks import endpoint as rules
from models.webhooks.endpoint import Endpoint
from models.webhooks.signature import make_secret
from worker.tokens.data_keys import fetching_keys
from worker.webhooks.deliver import place_of
from worker.webhooks.sending import Parcel


class NameTaken(Exception):
    """There is an endpoint of that name."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Every method that changes an endpoint returns it, and None if there is none of that name.

    Each raises `KeyServiceUnavailable` or `VaultError` if a secret can't be sealed or opened.
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

    def rotate(self, name: str, overlap: timedelta) -> tuple[Endpoint, Secret] | None:
        """Replace the secret, and return the new one; the one before signs as well for that long."""
        secret = make_secret()

        def change(endpoint: Endpoint, now: datetime) -> Endpoint:
            before = self.vault.open(endpoint.secret, place_of(endpoint.id, "secret"))
            sealed, previous = self._seal(endpoint, secret, "secret"), self._seal(endpoint, before, "previous_secret")
            return rules.rotate(endpoint, sealed, previous, now, overlap)

        rotated = self._change(name, change, Action.webhook_rotated)
        return None if rotated is None else (rotated, secret)

    def pause(self, name: str) -> Endpoint | None:
        """Send nothing until it is resumed; events wait."""
        return self._change(name, rules.pause, Action.webhook_paused)

    def resume(self, name: str) -> Endpoint | None:
        """Send what waits, at once."""
        return self._change(name, lambda endpoint, now: rules.resume(endpoint), Action.webhook_resumed, wakes=True)

    def remove(self, name: str) -> Endpoint | None:
        """Delete it with everything that waits for it."""
        with self.store.writing() as tx:
            found = tx.webhooks.named(name, lock=True)
            if found is not None:
                tx.webhooks.remove(found.id)
                self._note(tx, found, Action.webhook_removed, tx.overview.time())
        return found

    def _seal(self, endpoint: Endpoint, secret: Secret, field_name: str) -> Sealed:
        return self.vault.seal(secret, place_of(endpoint.id, field_name))

    @fetching_keys
    def _change(
        self, name: str, change: Callable[[Endpoint, datetime], Endpoint], action: Action, wakes: bool = False
    ) -> Endpoint | None:
        with self.store.writing() as tx:
            found, now = tx.webhooks.named(name, lock=True), tx.overview.time()
            if found is None:
                return None
            changed = change(found, now)
            tx.webhooks.save(changed)
            if wakes:
                tx.webhooks.wake(found.id, now)
            self._note(tx, found, action, now)
        return changed

    @staticmethod
    def _note(tx: Transaction, endpoint: Endpoint, action: Action, now: datetime) -> None:
        tx.audit.add(Entry(action=action, detail={"webhook": endpoint.name}), now)


def make_trial(now: datetime) -> Parcel:
    """Return a delivery that is about nothing, in the form of all others; its type is `webhook.test`."""
    trial_id = uuid4().hex
    document = {
        "specversion": "1.0",
        "id": trial_id,
        "source": "/breezesync",
        "type": f"{type_prefix}webhook.test",
        "subject": "webhook",
        "time": now.isoformat(),
        "datacontenttype": "application/json",
        "data": {},
    }
    return Parcel(trial_id, json.dumps(document, separators=(",", ":")))
