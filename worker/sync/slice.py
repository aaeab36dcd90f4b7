"""A slice: the part of a run that one job reads."""

from dataclasses import dataclass
from datetime import datetime

from models.crypto.secrets import Secret
from models.oauth.connection import Connection
from models.sync.sync_run import SyncList, SyncRun


@dataclass(frozen=True, slots=True)
class Slice:
    """What one job reads with.

    run: the run that it leased, as its last step left it.
    plan: the lists of the run, in order; they stay the same for as long as it runs.
    connection: the connection as it was when the run was leased.
    access_token: the token of that connection's generation.
    at: when the last step decided.
    """

    run: SyncRun
    plan: tuple[SyncList, ...]
    connection: Connection
    access_token: Secret
    at: datetime

    def has(self, run: SyncRun) -> bool:
        """Whether this job still has the lease of the stored run."""
        return run.id == self.run.id and run.lease_owner == self.run.lease_owner
