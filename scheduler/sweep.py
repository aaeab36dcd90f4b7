"""Claims what is due and sends it: refreshes, syncs, exchanges, events left behind."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from models import messages
from models.pace import count_free
from models.store import Store, Transaction
from models.store.due import disconnects, exchanges, revocations, syncs

claim_length = timedelta(seconds=120)
most_per_sweep = 1000
kept = timedelta(days=30)
most_per_prune = 5_000


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
    token_requests_per_minute: Mapping[str, int]
    claim_length: timedelta = claim_length

    def __call__(self) -> int:
        """Sends what is due and returns how much it was. Raises where database or queue are away: the next pass
        finds the claims given back, or run out."""
        now = self.now()
        if self.queue.was_emptied():
            with self.store.writing() as tx:
                tx.due.void_claims()
        with self.store.writing() as tx:
            tx.due.expire_authorizations(now, most_per_sweep)
            until = now + self.claim_length
            due = [*tx.due.claim(disconnects, now, until, most_per_sweep)]
            due += tx.due.claim(revocations, now, until, most_per_sweep)
            due += tx.due.claim(exchanges, now, until, most_per_sweep)
            for provider in self.token_requests_per_minute:
                due += tx.due.claim_refreshes(provider, now, until, self._count_refreshes(tx, provider, now))
            due += tx.due.claim(syncs, now, until, most_per_sweep)
            if tx.outbox.is_waiting():
                due.append(messages.publish_events())
            self.queue.send_all(due)
        return len(due)

    def _count_refreshes(self, tx: Transaction, provider: str, now: datetime) -> int:
        """As many as the token endpoint's budget has room for now: the rest stays in line, by its due time."""
        per_minute = self.token_requests_per_minute[provider]
        return count_free(tx.paces.get(provider), per_minute, "refresh", now, most_per_sweep)


@dataclass(frozen=True, slots=True)
class Prune:
    """Forgets what is older than its time: requests, decisions, events that have left.

    Events stay as long as the requests that explain them: an application that was down for a holiday replays them.
    """

    store: Store
    now: Callable[[], datetime]

    def __call__(self) -> None:
        before = self.now() - kept
        with self.store.writing() as tx:
            tx.journal.prune(before)
        pruned = most_per_prune
        while pruned == most_per_prune:
            with self.store.writing() as tx:
                pruned = tx.outbox.prune(before, most_per_prune)
