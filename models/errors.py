"""The error tree: what a flow may raise, and how the queue reacts.

    SyncError
    ├── Transient                retrying may help; may say how long to wait first
    │   ├── RedisUnavailable     Redis does not answer, or takes no writes
    │   ├── StoreUnavailable     the database does not answer, is too busy, or lacks something
    │   └── StoreConflict        another transaction was first
    └── Permanent                retrying cannot help: the message becomes a dead letter at once
        └── StoreRefused         the database refused a statement

A revoked grant, a rejected code or a reached rate limit is not an error: flows return those as outcomes.
"""

from datetime import timedelta


class SyncError(Exception):
    """Any error that keeps a job from finishing."""


class Transient(SyncError):
    """A temporary error; `retry_after` is how long the other side asked us to wait, if it did."""

    def __init__(self, message: str, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Permanent(SyncError):
    """An error that a retry cannot fix."""


class RedisUnavailable(Transient):
    """Redis does not answer, or is read-only."""


class StoreUnavailable(Transient):
    """The database cannot be reached, is too busy, or lacks a table or a privilege, at the moment."""


class StoreConflict(Transient):
    """Another transaction wrote the same row first, or changed the table; a retry sees what it wrote."""


class StoreRefused(Permanent):
    """The database refused a statement: a value that it can't store, or a bug of ours."""
