"""Claims: how a connection's due work is kept from being sent twice."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final


class Unchanged(Enum):
    """The type of `unchanged`, which leaves a claim as it is in the row."""

    value_ = "unchanged"


unchanged: Final = Unchanged.value_
Claim = datetime | Unchanged | None


@dataclass(frozen=True, slots=True)
class Claims:
    """Until when the sweep sends no message for a connection's due refresh or sync: one is on its way, or a job reads.

    None releases a claim: the sweep may send a message as soon as the work is due. `unchanged` leaves it as it is.
    """

    refresh: Claim = unchanged
    sync: Claim = unchanged


unchanged_claims: Final = Claims()
released: Final = Claims(refresh=None, sync=None)
refresh_released: Final = Claims(refresh=None)
