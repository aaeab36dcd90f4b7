"""The error tree: what a flow may raise, and what the queue does about it.

    SyncError
    ├── Transient                worth another try; may say how long to wait first
    │   ├── RedisUnavailable     Redis does not answer, or takes no writes
    │   ├── StoreUnavailable     the database does not answer, or is too busy
    │   └── StoreConflict        two transactions wrote the same row
    └── Permanent                no retry helps: the message becomes a dead letter at once
        └── StoreRefused         the database refused a statement

A revoked grant, a refused code or a full budget is no error: flows return those as outcomes.
"""

from datetime import timedelta


class SyncError(Exception):
    """Anything that keeps a job from being done."""


class Transient(SyncError):
    """A passing trouble; `retry_after` is how long the other side asked us to wait, if it did."""

    def __init__(self, message: str, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Permanent(SyncError):
    """A trouble that trying again cannot mend."""


class RedisUnavailable(Transient):
    """Redis does not answer, or takes no writes; what was to be sent or read waits."""


class StoreUnavailable(Transient):
    """The database can't be reached, or is too busy, just now."""


class StoreConflict(Transient):
    """Two transactions wrote the same row; the one that lost finds it written when it tries again."""


class StoreRefused(Permanent):
    """The database refused a statement: a defect of ours, or a schema that is too old."""
