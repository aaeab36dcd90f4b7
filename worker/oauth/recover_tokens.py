"""Taking in what was parked while the database was away: beside all messages, for as long as a worker runs."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from dramatiq.middleware import Middleware

from models.crypto.vault import Vault
from models.errors import SyncError
from models.messaging import messages
from models.oauth.authorization import Step, grant
from models.oauth.connection import may_hold
from models.oauth.token_pair import TokenPair
from models.store import Store
from models.store.transaction import StoreUnavailable
from worker.provider.client import ProviderClient
from worker.tokens.oauth_clients import ClientBook
from worker.tokens.revocation_queue import let_go_late
from worker.tokens.save import hold_rotation, save_exchanged
from worker.tokens.spool import Parking, Ticket

interval = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class TakeIn:
    """Saves each parked pair that is still the newest truth and drops the others: erased, superseded, or
    disconnected, and then the provider is told to end them."""

    store: Store
    vault: Vault
    clients: ClientBook
    providers: Mapping[str, ProviderClient]
    parking: Parking
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]

    def __call__(self) -> int:
        """Returns how many pairs were saved. Raises where the database is still away: nothing is dropped then.

        A pair that can't be saved, whatever the reason, keeps no other one waiting.
        """
        saved = 0
        for ticket in self.parking.tickets():
            try:
                saved += self._take_in(ticket)
            except StoreUnavailable:
                raise
            except Exception as error:
                structlog.get_logger("parking").warning("pair.still_parked", ticket=ticket.name, error=_tell(error))
        return saved

    def _take_in(self, ticket: Ticket) -> bool:
        pair = self.parking.find(ticket)
        if pair is None:
            return False
        saved = self._hold_refreshed(ticket, pair) if ticket.kind == "refresh" else self._hold_code(ticket, pair)
        self.parking.drop(ticket)
        return saved

    def _hold_refreshed(self, ticket: Ticket, pair: TokenPair) -> bool:
        with self.store.writing() as tx:
            connection, credential = tx.connections.lock(ticket.id), tx.credentials.get(ticket.id)
            if connection is None or credential is None:
                return False
            if not may_hold(connection, ticket.generation):
                client = self.providers.get(connection.provider)
                provider = None if client is None else client.provider
                let_go_late(tx, self.vault, provider, connection, pair.granted, self.now())
                return False
            hold_rotation(tx, self.vault, self.clients, connection, credential, pair)
        self.send(messages.publish_events())
        self.send(messages.read_connection(ticket.id))
        return True

    def _hold_code(self, ticket: Ticket, pair: TokenPair) -> bool:
        with self.store.writing() as tx:
            found = tx.authorizations.lock(ticket.id)
            if found is None or found.step is not Step.received:
                return False
            now = self.now()
            save_exchanged(tx, self.vault, self.clients, grant(found, due_at=now), pair, now)
        self.send(messages.exchange_code(ticket.id))
        return True


class TakesIn(Middleware):
    """Calls `take_in` every few seconds on a thread of its own: where it has to wait, nobody waits with it."""

    def __init__(self, take_in: Callable[[], int], every: timedelta = interval) -> None:
        self.take_in = take_in
        self.every = every
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name="take-in", daemon=True)

    def after_worker_boot(self, broker: Any, worker: Any) -> None:
        self.thread.start()

    def before_worker_shutdown(self, broker: Any, worker: Any) -> None:
        self.stopping.set()
        self.thread.join(timeout=1)

    def _run(self) -> None:
        while not self.stopping.wait(self.every.total_seconds()):
            try:
                self.take_in()
            except Exception as error:
                structlog.get_logger("parking").warning("pairs.still_parked", error=_tell(error))


def _tell(error: Exception) -> str:
    """Our own errors say what to do; what others say may hold what they worked on."""
    return str(error) if isinstance(error, SyncError) else type(error).__name__
