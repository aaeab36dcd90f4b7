"""What a check of `doctor` concludes."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; every failure has a remedy."""

    check: str
    state: State
    said: str
    remedy: str = ""
