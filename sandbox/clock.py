"""The sandbox's own time: real time plus what it was advanced by."""

import time
from datetime import UTC, datetime


class Clock:
    """Seconds since 1970; it can be moved forward."""

    def __init__(self) -> None:
        self.offset = 0.0

    def now(self) -> float:
        return time.time() + self.offset

    def advance(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError("the clock only goes forwards")
        self.offset += seconds


def format_time(at: float) -> str:
    """Format a time like Laravel: UTC with six decimals and a Z."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
