"""Claims what is due and sends it: refreshes, syncs, exchanges, events left behind."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from models.errors import Transient
from models.messaging import messages
from models.oauth.token_rate_limit import count_free
from models.store import Store, Transaction
from models.store.due_work import disconnects, exchanges, refreshes, revocations, syncs

claim_length = timedelta(seconds=60)
most_waiting = 1000
"""A queue that holds so many messages gets no more. What is due stays a row: sent again and again while it waits its
turn, it would make the queue longer, and the longer queue it be sent again."""
most_expired = 1000


class Queue(Protocol):
    """The queues. `was_emptied` is True once after they lost their messages; `count_waiting` is how many messages of
    one queue no worker has taken yet."""

    def send_all(self, batch: Sequence[messages.Message]) -> None: ...
    def was_emptied(self) -> bool: ...
    def count_waiting(self, queue: str) -> int: ...


@dataclass(frozen=True, slots=True)
class Sweep:
    """One pass. A claim is only a courtesy among sweeps: sending twice is harmless, never sending is not.

    A claim that ran out while its queue is short says that the message was lost: it is sent again. Messages leave after
    the claims are committed: a token that is to be saved waits for no lock while Redis is slow.
    """

    store: Store
    queue: Queue
    now: Callable[[], datetime]
    token_requests_per_minute: Mapping[str, int]
    claim_length: timedelta = claim_length
    most_waiting: int = most_waiting

    def __call__(self) -> int:
        """Send what is due and return how much it was. Raises if the database or Redis is away: the next pass finds the
        claims given back or, if that was not possible, expired."""
        now = self.now()
        if self.queue.was_emptied():
            with self.store.writing() as tx:
                tx.due.void_claims()
        with self.store.writing() as tx:
            tx.refusals.settle(now)
            for provider in self.token_requests_per_minute:
                tx.refusals.begin_trials(provider, now)
        room = {queue: self.most_waiting - self.queue.count_waiting(queue) for queue in set(messages.QUEUES.values())}
        with self.store.writing() as tx:
            due = self._claim(tx, now, room)
        try:
            self.queue.send_all(due)
        except Transient:
            with self.store.writing() as tx:
                tx.due.give_back(due)
            raise
        return len(due)

    def _claim(self, tx: Transaction, now: datetime, room: Mapping[str, int]) -> Sequence[messages.Message]:
        """What is due, in the order of who waits for it, and of each queue no more than it has room for."""
        tx.due.expire_authorizations(now, most_expired)
        until = now + self.claim_length
        due: list[messages.Message] = []
        for kind in (disconnects, revocations, exchanges):
            due += tx.due.claim(kind, now, until, room[kind.queue])
        for provider in self.token_requests_per_minute:
            due += tx.clients.claim_probes(provider, now, until)
            free = self._count_free(tx, provider, now, room[refreshes.queue])
            due += tx.due.claim_refreshes(provider, now, until, free, room[refreshes.queue])
        due += tx.due.claim(syncs, now, until, room[syncs.queue])
        if room[messages.publish_events().queue] > 0 and tx.outbox.is_waiting():
            due.append(messages.publish_events())
        return due

    def _count_free(self, tx: Transaction, provider: str, now: datetime, room: int) -> int:
        """As many refreshes as the token endpoint's budget, and the queue, have room for now: the rest stays in line,
        by its due time."""
        per_minute = self.token_requests_per_minute[provider]
        return count_free(tx.paces.get(provider), per_minute, "refresh", now, max(room, 0))
