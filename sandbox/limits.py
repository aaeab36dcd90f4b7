"""Laravel's throttle: fixed windows of a minute that start with a key's first request."""

import math
from dataclasses import dataclass

WINDOW_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Allowance:
    """The state of the window for one request; `retry_after` is None if the request is allowed."""

    limit: int
    remaining: int
    retry_after: int | None = None
    resets_at: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        headers = {"x-ratelimit-limit": str(self.limit), "x-ratelimit-remaining": str(self.remaining)}
        if self.retry_after is not None:
            headers |= {"retry-after": str(self.retry_after), "x-ratelimit-reset": str(self.resets_at)}
        return headers


class Windows:
    """Requests counted per key; a refused request doesn't count."""

    def __init__(self) -> None:
        self._windows: dict[object, tuple[float, int]] = {}

    def count(self, key: object, limit: int, now: float) -> Allowance | None:
        """Count one request of `key` at `now`; None if there is no limit (0)."""
        if limit == 0:
            return None
        closes_at, hits = self._windows.get(key, (0.0, 0))
        if now >= closes_at:
            closes_at, hits = now + WINDOW_SECONDS, 0
        if hits >= limit:
            return Allowance(limit, 0, math.ceil(closes_at - now), math.ceil(closes_at))
        self._windows[key] = (closes_at, hits + 1)
        return Allowance(limit, limit - hits - 1)
