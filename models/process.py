"""What a process reports of itself, and which are still alive."""

from dataclasses import dataclass
from datetime import datetime, timedelta

reported_every = timedelta(seconds=30)
alive_for = timedelta(seconds=90)
"""A process that has not reported for so long has ended, or hangs."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process.

    name: its role, its host and its number.
    role: worker, scheduler, web or operator.
    version: of breezesync.
    ahead: seconds that its machine's clock is ahead of the database's.
    seen_at: when it reported, by the fleet's clock.
    """

    name: str
    role: str
    version: str
    ahead: float
    seen_at: datetime
