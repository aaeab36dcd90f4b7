"""How long to wait after a failure: delays that grow, and then stay as long as the last one."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Self


@dataclass(frozen=True, slots=True)
class Backoff:
    """The delays after the first, second, third … failure in a row."""

    delays: tuple[timedelta, ...]

    @classmethod
    def of_seconds(cls, *seconds: float) -> Self:
        return cls(tuple(timedelta(seconds=each) for each in seconds))

    @property
    def first(self) -> timedelta:
        return self.delays[0]

    @property
    def longest(self) -> timedelta:
        return self.delays[-1]

    def after(self, failures: int) -> timedelta:
        """Return the delay after the `failures`th failure in a row."""
        return self.delays[min(max(failures, 1), len(self.delays)) - 1]
