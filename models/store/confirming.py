"""Carry out a `confirm`, however it came: as a message, as a command, or typed by an operator."""

from datetime import datetime

import structlog

from models.audit.entry import Channel, received
from models.messaging.commands import Confirm
from models.oauth.confirmation import Verdict, decide_confirm
from models.store.authorization_change import apply_change
from models.store.transaction import Transaction


def confirm(tx: Transaction, given: Confirm, now: datetime, channel: Channel) -> Verdict:
    """Write what the application's answer changes, and return the verdict; the exchange of an accepted one is due.

    `channel` is how it came, for the audit.
    """
    # The race: two answers at once, or one and the sweep that ends the authorization. The row's lock orders them.
    decision = decide_confirm(tx.authorizations.lock(given.authorization_id), given, now)
    if decision.change is not None:
        apply_change(tx, decision.change, now)
        authorization_id, verdict = given.authorization_id, decision.verdict.value
        tx.audit.add(received(channel, "confirm", {"verdict": verdict}, authorization_id=authorization_id), now)
    log = structlog.get_logger("confirm")
    write = log.info if decision.verdict in (Verdict.accepted, Verdict.repeated) else log.warning
    write(f"confirmation.{decision.verdict.value}", authorization_id=given.authorization_id)
    return decision.verdict
