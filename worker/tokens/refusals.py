"""Holds begin and end here; and what is left of a refusal when its connection has a new pair or is disconnected."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import structlog

from models.audit.entry import Action, Entry
from models.messaging.events import About, MassRefusal, MassRefusalEnded, data_of
from models.oauth.connection import Connection
from models.oauth.hold import Hold, Refusal, limits_of
from models.provider import Provider
from models.store import Transaction


def begin_hold(tx: Transaction, hold: Hold, provider: Provider, now: datetime) -> int:
    """Open a hold, which takes all that waits with it; return how many that is. The caller has locked the client."""
    held = tx.refusals.open(hold)
    decision: Literal["held", "held_by_operator"] = "held_by_operator" if hold.by_operator else "held"
    _publish(tx, hold, MassRefusal(hold.client_id, held, _count_refused(tx, hold, provider, now), decision), now)
    _audit(tx, hold, Action.provider_held, {"decision": decision, "connections": held}, now)
    return held


def end_hold(
    tx: Transaction,
    hold: Hold,
    provider: Provider,
    decision: Literal["recovered", "released", "accepted"],
    now: datetime,
    accepted: int = 0,
) -> int:
    """End a hold and release what it holds; return how many that is. The caller has locked the client."""
    refused = _count_refused(tx, hold, provider, now)
    released = tx.refusals.end_hold(hold.provider, hold.client_id)
    _publish(tx, hold, MassRefusalEnded(hold.client_id, released + accepted, refused, decision), now)
    action = Action.provider_accepted if decision == "accepted" else Action.provider_released
    _audit(tx, hold, action, {"decision": decision, "connections": released + accepted}, now)
    return released


def forget_refusal(tx: Transaction, connection: Connection) -> Refusal | None:
    """Forget the refusal of a connection that has a new pair, or none any more; return it, its client locked."""
    if tx.refusals.get(connection.id) is None:
        return None
    # Race: the client is locked before its refusals, as everywhere; another transaction may have dropped this one.
    tx.clients.lock(connection.provider, connection.client_id)
    found = tx.refusals.get(connection.id)
    tx.refusals.drop(connection.id)
    return found


def note_recovery(
    tx: Transaction, connection: Connection, refusal: Refusal | None, provider: Provider | None, now: datetime
) -> None:
    """A connection has a new pair. If it was held, the refusals were no user's doing, and its client's hold ends.

    `refusal` is the connection's own, as this transaction has read it.
    """
    found = None if refusal is None else forget_refusal(tx, connection)
    if found is None or not found.is_held or provider is None:
        return
    hold = tx.refusals.hold(found.provider, found.client_id)
    if hold is not None and not hold.by_operator:
        end_hold(tx, hold, provider, "recovered", now)


def _count_refused(tx: Transaction, hold: Hold, provider: Provider, now: datetime) -> int:
    return tx.refusals.count_refused(hold.provider, hold.client_id, now - limits_of(provider).window)


def _audit(tx: Transaction, hold: Hold, action: Action, detail: Mapping[str, object], now: datetime) -> None:
    tx.audit.add(Entry(action=action, provider=hold.provider, detail={"client_id": hold.client_id, **detail}), now)


def _publish(tx: Transaction, hold: Hold, fact: MassRefusal | MassRefusalEnded, now: datetime) -> None:
    """Add the event; what an operator decides is on their screen, and needs no line in a log."""
    about = About(hold.provider, other_subject=f"client/{hold.client_id}")
    tx.outbox.append(about, (fact,), now)
    if fact.decision in ("held", "recovered"):
        structlog.get_logger("hold").warning(fact.type, provider=hold.provider, **data_of(fact))
