"""Chains the audit's new lines, and closes its days."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

import structlog

from models.audit.chain import close, extend
from models.store import Store, Transaction

most_per_transaction = 1_000


@dataclass(frozen=True, slots=True)
class AuditChain:
    """One pass. Any number of schedulers run it; the database lets one of them chain at a time.

    A transaction chains its lines or none of them, so a scheduler that dies leaves them to the next pass.
    """

    store: Store
    now: Callable[[], datetime]
    most_per_transaction: int = most_per_transaction

    def __call__(self) -> int:
        """Chain every line that waits, and return how many they were."""
        total = 0
        while self._is_due():
            with self.store.writing() as tx:
                # Race: two schedulers read the same end of the chain, and would give two lines the same place.
                if not tx.audit.lock():
                    return total
                chained = self._chain(tx, self.now().date())
            total += chained
            if chained < self.most_per_transaction:
                return total
        return total

    def _is_due(self) -> bool:
        """Whether there is anything to write: on SQLite, a transaction that may write keeps all others waiting."""
        with self.store.reading() as tx:
            waits = bool(tx.audit.waiting(1))
            return waits or close(tx.audit.end(), tx.audit.newest_day(), self.now().date()) is not None

    def _chain(self, tx: Transaction, today: date) -> int:
        end = tx.audit.end()
        day = close(end, tx.audit.newest_day(), today)
        if day is not None:
            tx.audit.close(day)
            # A line outside the database, which no one who rewrites the chain can take back. It is logged before the
            # commit: a day that is closed a second time has the same head.
            structlog.get_logger("audit").info("audit.day_closed", day=str(day.day), count=day.count, head=day.head)
        lines = tx.audit.waiting(self.most_per_transaction)
        tx.audit.chain(list(extend(end, lines, today, tx.audit.newest_day())))
        return len(lines)
