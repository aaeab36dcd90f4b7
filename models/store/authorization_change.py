"""The only place that writes a change of an authorization, for workers, web and scheduler."""

from datetime import datetime

import structlog

from models.oauth.authorization import Authorization, AuthorizationChange, failed_steps
from models.store.transaction import Transaction


def apply_change(tx: Transaction, change: AuthorizationChange, now: datetime) -> None:
    """Save the authorization with its events and notes; the caller has locked the row."""
    authorization = change.authorization
    before = tx.authorizations.get(authorization.id)
    tx.authorizations.save(authorization)
    if before is not None:
        _log_change(before, authorization)
    tx.outbox.append(authorization.about, change.facts, now)
    for note in change.notes:
        tx.journal.decide(authorization.id, now, note.verb, **note.evidence)


def _log_change(before: Authorization, after: Authorization) -> None:
    """Log a change of its step or of what holds it up; an attempt that fails as the one before did is none."""
    if (before.step, before.reason, before.description) == (after.step, after.reason, after.description):
        return
    log = structlog.get_logger("authorization")
    write = log.warning if after.step in failed_steps or after.reason is not None else log.info
    write(
        f"authorization.{after.step.value}",
        authorization_id=after.id,
        reason=after.reason,
        description=after.description,
    )
