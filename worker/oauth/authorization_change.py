"""The only place that writes a change of an authorization."""

from datetime import datetime

from models.oauth.authorization import AuthorizationChange
from models.store import Transaction


def apply_change(tx: Transaction, change: AuthorizationChange, now: datetime) -> None:
    """Save the authorization with its events and notes; the caller has locked the row."""
    authorization = change.authorization
    tx.authorizations.save(authorization)
    tx.outbox.append(authorization.about, change.facts, now)
    for note in change.notes:
        tx.journal.decide(authorization.id, now, note.verb, **note.evidence)
