"""Claims what is due and sends it: refreshes, syncs, exchanges, events left behind."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from models import messages
from models.store import Store
from models.store.due import kinds

claim_length = timedelta(seconds=120)
most_per_sweep = 1000
kept_in_journal = timedelta(days=30)


class Queue(Protocol):
    """Where messages go. `was_emptied` is True once after the queue lost what it held."""

    def send_all(self, batch: Sequence[messages.Message]) -> None: ...
    def was_emptied(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Sweep:
    """One pass. A claim is only a courtesy among sweeps: sending twice is harmless, never sending is not."""

    store: Store
    queue: Queue
    now: Callable[[], datetime]

    def __call__(self) -> int:
        """Sends what is due and returns how much it was. Raises where database or queue are away: the next pass
        finds the claims given back, or run out."""
        now = self.now()
        if self.queue.was_emptied():
            with self.store.writing() as tx:
                tx.due.void_claims()
        with self.store.writing() as tx:
            tx.due.expire_authorizations(now, most_per_sweep)
            due = [m for kind in kinds for m in tx.due.claim(kind, now, now + claim_length, most_per_sweep)]
            backlog, _ = tx.outbox.backlog()
            if backlog:
                due.append(messages.publish_events())
            self.queue.send_all(due)
        return len(due)


@dataclass(frozen=True, slots=True)
class Prune:
    """Forgets what is older than its time: requests and decisions."""

    store: Store
    now: Callable[[], datetime]

    def __call__(self) -> None:
        with self.store.writing() as tx:
            tx.journal.prune(self.now() - kept_in_journal)
