"""An operator's part in a hold: begin one, release what it holds, or accept that it has ended."""

from collections.abc import Sequence
from dataclasses import dataclass

from models.journal import Verb
from models.oauth.connection import Status, revoke
from models.oauth.hold import Refusal, open_hold
from models.provider import Provider
from models.store import Store
from worker.tokens.end_connection import end_connection
from worker.tokens.refusals import begin_hold, end_hold

batch = 100


@dataclass(frozen=True, slots=True)
class HoldByOperator:
    """Each method returns how many connections it concerned; None if there is no hold to end."""

    store: Store
    provider: Provider

    def hold(self, client_id: str) -> int:
        """Hold every further refusal of the client, and those that wait, until an operator decides."""
        with self.store.writing() as tx:
            tx.clients.lock(self.provider.name, client_id)
            hold, now = tx.refusals.hold(self.provider.name, client_id), tx.overview.time()
            if hold is not None and hold.by_operator:
                return tx.refusals.count_held(self.provider.name, client_id)
            return begin_hold(tx, open_hold(self.provider.name, client_id, True, now), self.provider, now)

    def release(self, client_id: str) -> int | None:
        """Try every held connection again; what is refused then is judged like any other."""
        with self.store.writing() as tx:
            tx.clients.lock(self.provider.name, client_id)
            hold = tx.refusals.hold(self.provider.name, client_id)
            return None if hold is None else end_hold(tx, hold, self.provider, "released", tx.overview.time())

    def accept(self, client_id: str) -> int | None:
        """End every held connection for the reason that its refusal gave, and tell each user.

        If the hold ends meanwhile, what it still held is tried again.
        """
        with self.store.reading() as tx:
            hold = tx.refusals.hold(self.provider.name, client_id)
        if hold is None:
            return None
        accepted = 0
        while held := self._find_held(client_id):
            accepted += sum(self._end(refusal) for refusal in held)
        with self.store.writing() as tx:
            tx.clients.lock(self.provider.name, client_id)
            # Race: one of them turned out good, or another operator ended the hold meanwhile, or even began one more.
            found = tx.refusals.hold(self.provider.name, client_id)
            if found is not None and found.opened_at == hold.opened_at:
                end_hold(tx, found, self.provider, "accepted", tx.overview.time(), accepted)
        return accepted

    def _find_held(self, client_id: str) -> Sequence[Refusal]:
        with self.store.reading() as tx:
            return tx.refusals.held(self.provider.name, client_id, batch)

    def _end(self, refusal: Refusal) -> bool:
        with self.store.writing() as tx:
            connection = tx.connections.lock(refusal.connection_id)
            tx.clients.lock(refusal.provider, refusal.client_id)
            # Race: it turned out good, was authorized again or disconnected meanwhile.
            found, now = tx.refusals.get(refusal.connection_id), tx.overview.time()
            if found is None or not found.is_held:
                return False
            tx.refusals.drop(refusal.connection_id)
            if connection is None or connection.status is not Status.active:
                return False
            transition = revoke(connection, found.reason, found.detected_by, now, f"/auth/{connection.provider}")
            credential, prefix = tx.credentials.get(connection.id), self.provider.path_prefix
            end_connection(tx, transition, credential, found.reason, now, prefix)
            tx.journal.decide(connection.id, now, Verb(f"revoked.{found.reason}"), **found.evidence)
        return True
