"""Deletes what has been kept long enough, in small transactions."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from models.audit.chain import kept as audit_kept
from models.store import Store, Transaction
from models.store.days import start_of_day
from scheduler.days import drop_days

KEPT = timedelta(days=30)
MOST_PER_TRANSACTION = 5_000


@dataclass(frozen=True, slots=True)
class Prune:
    """Delete requests, decisions, published events, sync runs, calls and ended authorizations older than `KEPT`.

    With the events go the dead letters of webhooks. The newest run of each connection stays, and so do the newest
    decisions about it. Events stay as long as the requests that explain them, so that an application that was down for
    weeks can replay them. The audit is kept for longer, and goes by whole days. The bodies of calls are erased after a
    day (see `models/gateway/call.py`).

    On PostgreSQL days of requests, published events and runs are dropped first. So everything there goes by whole days,
    and few rows are left to delete: the newest run of a connection once it is no longer the newest, and what came when
    there was no day for it.
    """

    store: Store
    now: Callable[[], datetime]

    def __call__(self) -> None:
        now = self.now()
        before, audited_before = now - KEPT, (now - audit_kept).date()
        if self.store.has_days:
            before = start_of_day(before)
            drop_days(self.store, before)
        kinds: tuple[Callable[[Transaction], int], ...] = (
            lambda tx: tx.journal.prune(before, MOST_PER_TRANSACTION),
            lambda tx: tx.outbox.prune(before, MOST_PER_TRANSACTION),
            lambda tx: tx.refusals.prune(before, MOST_PER_TRANSACTION),
            lambda tx: tx.runs.prune(before, MOST_PER_TRANSACTION),
            lambda tx: tx.authorizations.prune(before, MOST_PER_TRANSACTION),
            lambda tx: tx.calls.erase_bodies(now, MOST_PER_TRANSACTION),
            lambda tx: tx.calls.prune(before, MOST_PER_TRANSACTION),
            lambda tx: tx.audit.prune(audited_before, MOST_PER_TRANSACTION),
            lambda tx: tx.webhooks.prune(before, MOST_PER_TRANSACTION),
        )
        for prune in kinds:
            pruned = MOST_PER_TRANSACTION
            while pruned == MOST_PER_TRANSACTION:
                with self.store.writing() as tx:
                    pruned = prune(tx)
        with self.store.writing() as tx:
            tx.processes.forget(now - timedelta(days=1))
