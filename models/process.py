"""What a process reports of itself, and for how long it counts as alive."""

from dataclasses import dataclass
from datetime import datetime, timedelta

alive_for = timedelta(minutes=2)
"""A process that has not reported for so long has ended, or can't reach the database."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process.

    name: its role, its host and its number.
    role: worker, scheduler, web or operator.
    version: of breezesync.
    reported_at: when it reported last, by the fleet's clock.
    ahead_seconds: how far its machine's clock is ahead of the fleet's; 0 if it is right within a second.
    """

    name: str
    role: str
    version: str
    reported_at: datetime
    ahead_seconds: float = 0.0

    def is_alive(self, now: datetime) -> bool:
        """Return whether it reported lately."""
        return self.reported_at > now - alive_for
