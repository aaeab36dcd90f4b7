"""A grant that is no longer needed, to be revoked at its provider (RFC 7009), and for how long that is tried."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from models.backoff import Backoff
from models.clock import is_due
from models.crypto.secrets import Sealed
from models.journal import Verb
from models.messaging.events import ConnectionDisconnected, Fact

give_up_after = timedelta(hours=24)
pauses = Backoff.of_seconds(30, 60, 300, 900, 3600)


@dataclass(frozen=True, slots=True)
class Revocation:
    """One token of the grant, sealed for this row, until the provider has confirmed or the time is over.

    `tells` is whether its end is the `connection.disconnected` of `connection_id`. A grant that never became a
    connection, or whose disconnect was published before, ends without an event.

    user_id, account_id: whose grant it is if it never became a connection, and of which account if that is known.
    """

    id: str
    provider: str
    client_id: str
    token: Sealed
    created_at: datetime
    due_at: datetime
    connection_id: str | None = None
    user_id: str | None = None
    account_id: str | None = None
    tells: bool = False
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class RevocationEnd:
    """How a revocation ended: the events and the journal's verb for its connection."""

    facts: tuple[Fact, ...]
    verb: Verb


def begin_attempt(revocation: Revocation, now: datetime) -> Revocation | None:
    """Return the row to save before the request leaves: due again later, in case its worker dies.

    None while another attempt is under way, or its pause lasts.
    """
    if not is_due(revocation.due_at, now):
        return None
    attempts = revocation.attempts + 1
    return replace(revocation, attempts=attempts, due_at=now + pauses.after(attempts))


def decide_end(revocation: Revocation, confirmed: bool, now: datetime) -> RevocationEnd | None:
    """Decide whether an attempt was the last: the provider confirmed it, or it was tried for long enough."""
    if not confirmed and now - revocation.created_at < give_up_after:
        return None
    facts = (ConnectionDisconnected(revoked_upstream=confirmed),) if revocation.tells else ()
    return RevocationEnd(facts, Verb.revoked_upstream if confirmed else Verb.revoked_upstream_unconfirmed)
