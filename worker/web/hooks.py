"""A provider's webhook: makes the connections of an account due, and keeps nothing of what it says."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from models.crypto.secrets import Secret
from models.hook import HookSecrets, find_account, is_signed, name_delivery, repeats_within
from models.messaging import messages
from models.provider import Provider
from models.store import Store
from models.store.requested_sync import request_sync
from worker.web.refusal import Refused

most_seen = 4_096
most_connections = 100
"""Users who connected the same account; more are read when they are due."""


@dataclass(slots=True)
class Seen:
    """When the newest deliveries of this process came, by their hash."""

    hashes: OrderedDict[bytes, datetime] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def has(self, delivery: bytes, since: datetime) -> bool:
        """Return whether it came after that time."""
        with self.lock:
            at = self.hashes.get(delivery)
            return at is not None and at > since

    def add(self, delivery: bytes, now: datetime) -> None:
        with self.lock:
            self.hashes[delivery] = now
            self.hashes.move_to_end(delivery)
            while len(self.hashes) > most_seen:
                self.hashes.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Hooks:
    """Takes the webhooks of every provider whose profile describes one and whose secrets are set.

    A body says only which account to read. So what is forged, repeated or late costs at most one sync.
    """

    store: Store
    providers: Mapping[str, Provider]
    secrets: Mapping[str, HookSecrets]
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]
    seen: Seen = field(default_factory=Seen)

    def receive(self, name: str, path_secret: str, headers: Mapping[str, str], body: bytes) -> None:
        """Make the connections due that it is about, if any. Raises `Refused`, and `SyncError` to be called again."""
        provider, secrets = self.providers.get(name), self.secrets.get(name)
        hook = None if provider is None else provider.webhook
        if hook is None or secrets is None or secrets.path != Secret(path_secret):
            raise Refused(404, "This page does not exist", "Check the webhook's URL at the provider.")
        now = self.now()
        if not is_signed(hook, secrets.key, headers, body, now):
            raise Refused(403, "The signature is wrong", "Check the webhook's secret.", reason="bad_signature")
        account_id = find_account(hook, body)
        # A delivery that only the URL's secret vouches for may look like an earlier one, and be about something else.
        delivery = name_delivery(name, hook, headers, body)
        if account_id is None or (delivery is not None and self.seen.has(delivery, now - repeats_within(hook))):
            return
        with self.store.writing() as tx:
            found = tx.connections.ids_of_account(name, account_id, most_connections)
            asked = [connection_id for connection_id in found if request_sync(tx, connection_id, now)]
        if delivery is not None:
            self.seen.add(delivery, now)
        for connection_id in asked:
            self.send(messages.carry_out_sync(connection_id))
