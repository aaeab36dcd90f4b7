"""Recover the pairs that were parked while the database was away; a thread of each worker does it."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from dramatiq.middleware import Middleware

from models.crypto.vault import Vault
from models.errors import StoreUnavailable, SyncError
from models.messaging import messages
from models.oauth.authorization import Step, failed_steps, grant
from models.oauth.connection import may_hold
from models.oauth.refresh_decision import drop_pair, save_pair
from models.oauth.token_pair import TokenPair
from models.store import Store
from worker.oauth.apply_refresh import RefreshWriter
from worker.provider.client import ProviderClient
from worker.tokens.data_keys import fetching_keys
from worker.tokens.oauth_clients import OAuthClients
from worker.tokens.revocation_queue import revoke_unconnected
from worker.tokens.save import save_exchanged
from worker.tokens.spool import Parking, Ticket

interval = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class RecoverTokens:
    """Save each parked pair that is still the newest of its connection, and drop the others: their connection was
    erased, refreshed since, or disconnected. The pair of a disconnected account is revoked at the provider."""

    store: Store
    vault: Vault
    clients: OAuthClients
    providers: Mapping[str, ProviderClient]
    parking: Parking
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]

    def __call__(self) -> int:
        """Return how many pairs were saved. Raises `StoreUnavailable` if the database is away; no pair is dropped then.

        A pair that can't be saved for any other reason does not keep the others waiting.
        """
        saved = 0
        self.parking.release_forgotten()
        for ticket in self.parking.tickets():
            try:
                saved += self._recover(ticket)
            except StoreUnavailable:
                raise
            except Exception as error:
                structlog.get_logger("parking").warning("pair.still_parked", ticket=ticket.name, error=_describe(error))
        return saved

    def _recover(self, ticket: Ticket) -> bool:
        pair = self.parking.find(ticket)
        if pair is None:
            return False
        saved = self._save_refreshed(ticket, pair) if ticket.kind == "refresh" else self._save_exchanged(ticket, pair)
        self.parking.drop(ticket)
        return saved

    @fetching_keys
    def _save_refreshed(self, ticket: Ticket, pair: TokenPair) -> bool:
        writer = RefreshWriter(self.vault, self.clients, self.providers)
        with self.store.writing() as tx:
            connection, credential = tx.connections.lock(ticket.id), tx.credentials.get(ticket.id)
            if connection is None or credential is None:
                return False
            # Race: while the pair was parked, a newer one was saved, or the account was disconnected.
            if not may_hold(connection, ticket.generation):
                writer.apply(tx, drop_pair(connection, pair.granted, self.now()))
                return False
            writer.apply(tx, save_pair(connection, credential, pair))
        self.send(messages.publish_events())
        self.send(messages.read_connection(ticket.id))
        return True

    @fetching_keys
    def _save_exchanged(self, ticket: Ticket, pair: TokenPair) -> bool:
        with self.store.writing() as tx:
            found, now = tx.authorizations.lock(ticket.id), self.now()
            if found is not None and found.step in failed_steps:
                # Race: the authorization was given up while its pair was parked.
                provider = self.providers[found.provider].provider
                revoke_unconnected(tx, self.vault, provider, found, pair.granted, now)
            if found is None or found.step is not Step.received:
                return False
            save_exchanged(tx, self.vault, self.clients, grant(found, due_at=now), pair, now)
        self.send(messages.exchange_code(ticket.id))
        return True


class RecoveryThread(Middleware):
    """Recover parked pairs every few seconds on a thread of its own, so that no message waits for it."""

    def __init__(self, recover: Callable[[], int], every: timedelta = interval) -> None:
        self.recover = recover
        self.every = every
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name="recover-tokens", daemon=True)

    def after_worker_boot(self, broker: Any, worker: Any) -> None:
        self.thread.start()

    def before_worker_shutdown(self, broker: Any, worker: Any) -> None:
        self.stopping.set()
        self.thread.join(timeout=1)

    def _run(self) -> None:
        while not self.stopping.wait(self.every.total_seconds()):
            try:
                self.recover()
            except Exception as error:
                structlog.get_logger("parking").warning("pairs.still_parked", error=_describe(error))


def _describe(error: Exception) -> str:
    """Describe an error: ours say what to do; the text of any other may contain what it worked on, even a token."""
    return str(error) if isinstance(error, SyncError) else type(error).__name__
