"""What an account without room for a request is told; how many it may make is in `worker/provider/rate_limit.lua`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wait:
    """There is no room for so many seconds."""

    seconds: float
