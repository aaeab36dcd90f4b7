"""What an outcome does to an authorization's row, each time in the transaction that carries it out."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from models.messaging.events import AuthorizationFailed, FailureReason
from models.oauth.authorization import Authorization, Step, end
from models.oauth.token_response import Evidence
from models.store import Transaction


@dataclass(frozen=True, slots=True)
class Authorizing:
    now: Callable[[], datetime]

    def fail(
        self,
        tx: Transaction,
        found: Authorization,
        reason: FailureReason,
        description: str,
        evidence: Evidence | None = None,
    ) -> None:
        now = self.now()
        tx.authorizations.save(replace(end(found, Step.failed), reason=reason, description=description))
        tx.outbox.append(found.about, [AuthorizationFailed(found.id, reason, description)], now)
        self.note(tx, found, f"failed.{reason}", evidence or Evidence())

    def wait(self, tx: Transaction, found: Authorization, until: datetime) -> None:
        tx.authorizations.save(replace(found, lease_owner=None, lease_until=None, due_at=until))

    def note(self, tx: Transaction, found: Authorization, verb: str, evidence: Evidence) -> None:
        shown = {"status": evidence.status, "error": evidence.error, "hint": evidence.hint}
        tx.journal.decide(found.id, self.now(), verb, **shown)
