"""A grant that nobody here needs any more: the provider is told to end it, and how long that is tried."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from models.crypto.secrets import Sealed

give_up_after = timedelta(hours=24)
pauses = tuple(timedelta(seconds=seconds) for seconds in (30, 60, 300, 900, 3600))


@dataclass(frozen=True, slots=True)
class Revocation:
    """One token of the grant, sealed for this row, until the provider has confirmed or the time is over.

    `tells` is whether its end is the `connection.disconnected` of `connection_id`; a grant that never became a
    connection, or one whose disconnect has been told, ends in silence.
    """

    id: str
    provider: str
    client_id: str
    token: Sealed
    created_at: datetime
    due_at: datetime
    connection_id: str | None = None
    tells: bool = False
    attempts: int = 0


def begin_attempt(revocation: Revocation, now: datetime) -> Revocation | None:
    """The row as it has to stand before the request leaves: due again later, should nobody live to write the answer.

    None while somebody else's attempt is under way, or its pause lasts.
    """
    if revocation.due_at > now:
        return None
    pause = pauses[min(revocation.attempts, len(pauses) - 1)]
    return replace(revocation, attempts=revocation.attempts + 1, due_at=now + pause)


def is_over(revocation: Revocation, now: datetime) -> bool:
    """Whether it was tried for long enough."""
    return now - revocation.created_at >= give_up_after
