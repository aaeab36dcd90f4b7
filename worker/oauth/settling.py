"""What an answer does to the rows of a refresh, each time in the transaction that carries it out."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from models.messaging.events import Detector, RevokedReason
from models.oauth.connection import Connection, revoke
from models.oauth.credential import Credential
from models.oauth.refresh_policy import probe_again_at, retry_at
from models.oauth.token_response import Evidence
from models.store import Transaction
from worker.tokens.oauth_clients import ClientBook


@dataclass(frozen=True, slots=True)
class Settling:
    """Every method is given the rows as they stand, locked."""

    clients: ClientBook
    now: Callable[[], datetime]

    def end(
        self,
        tx: Transaction,
        connection: Connection,
        credential: Credential,
        reason: RevokedReason,
        detected_by: Detector,
        evidence: Evidence,
    ) -> None:
        """The grant is dead, or counts as dead: its tokens go, and the user hears that they are asked for again."""
        now = self.now()
        ended, facts = revoke(connection, reason, detected_by, now, f"/auth/{connection.provider}")
        tx.connections.save(ended, connection.generation)
        tx.credentials.put(
            replace(credential, access_token=None, refresh_token=None, lease_owner=None, lease_until=None)
        )
        tx.runs.end(connection.id, reason)
        tx.outbox.append(connection.about, facts, now)
        self.note(tx, connection, f"revoked.{reason}", evidence)

    def leave_unknown(
        self, tx: Transaction, connection: Connection, credential: Credential, evidence: Evidence
    ) -> None:
        """The intent stays, and so does the time at which it is looked into: when the provider must be done."""
        tx.credentials.put(replace(credential, lease_owner=None, lease_until=None))
        self.note(tx, connection, "refresh.unknown", evidence)

    def put_back(
        self,
        tx: Transaction,
        connection: Connection,
        credential: Credential,
        until: datetime | None,
        problem: str | None = None,
    ) -> None:
        """Nothing was spent: the refresh comes back later."""
        failures = credential.failures + 1
        tx.credentials.put(replace(credential, failures=failures))
        due = until or retry_at(self.now(), failures, connection.expires_at)
        self.wait(tx, replace(connection, problem=problem or connection.problem), due)

    def drop_scope(
        self, tx: Transaction, connection: Connection, credential: Credential, sent: str, evidence: Evidence
    ) -> None:
        """Nothing was spent. Without `scope` the grant keeps the one it has (RFC 6749 §6); where even that is
        refused, the client is at fault."""
        if not sent:
            self.leave_client(tx, connection, credential, evidence)
            return
        tx.clients.omit_refresh_scope(connection.provider, connection.client_id)
        tx.credentials.put(credential)
        tx.connections.make_refresh_due(connection.id, self.now())
        self.note(tx, connection, "refresh.scope_refused", evidence)

    def leave_client(self, tx: Transaction, connection: Connection, credential: Credential, evidence: Evidence) -> None:
        """The client is refused, and nothing was spent: its refreshes pause, and this one goes behind the others."""
        now, failures = self.now(), credential.failures + 1
        self.note(tx, connection, "client.rejected", evidence)
        paused_until = self.clients.reject(tx, connection.provider, connection.client_id, evidence, now)
        due = probe_again_at(paused_until, now, failures, connection.expires_at)
        self.put_back(tx, connection, credential, due)

    def wait(self, tx: Transaction, connection: Connection, until: datetime) -> None:
        tx.connections.save(replace(connection, refresh_due_at=until), connection.generation)

    def note(self, tx: Transaction, connection: Connection, verb: str, evidence: Evidence) -> None:
        tx.journal.decide(
            connection.id,
            self.now(),
            verb,
            generation=connection.generation,
            status=evidence.status,
            error=evidence.error,
            hint=evidence.hint,
            description=evidence.description,
        )
