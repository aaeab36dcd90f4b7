"""Claims what is due and sends it: refreshes, syncs, exchanges, calls, events left behind."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from models.errors import Transient
from models.messaging import messages
from models.oauth.token_rate_limit import count_free
from models.store import Store, Transaction
from models.store.due_work import Work, calls, disconnects, exchanges, refreshes, revocations, syncs

claim_length = timedelta(seconds=60)
most_waiting = 1000
"""A queue that holds so many messages gets no more. What is due stays a row: sent again and again while it waits its
turn, it would make the queue longer, and the longer queue it be sent again."""
most_expired = 1000
about_refusals = frozenset({Work.held, Work.released, Work.trials})


class Queue(Protocol):
    """The queues. `was_emptied` is True once after they lost their messages; `count_waiting` is how many messages of
    each queue no worker has taken yet."""

    def send_all(self, batch: Sequence[messages.Message]) -> None: ...
    def was_emptied(self) -> bool: ...
    def count_waiting(self) -> Mapping[str, int]: ...


@dataclass(frozen=True, slots=True)
class Sweep:
    """One pass. A claim is only a courtesy among sweeps: sending twice is harmless, never sending is not.

    A claim that ran out while its queue is short says that the message was lost: it is sent again. Messages leave after
    the claims are committed: a token that is to be saved waits for no lock while Redis is slow. A pass that finds
    nothing costs one command of Redis and one statement that reads.
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
                tx.due.void_claims(now)
        found = self.store.read_once(lambda tx: tx.due.look(now))
        if not found:
            return 0
        if found & about_refusals:
            found |= self._settle(now)
        waiting = self.queue.count_waiting()
        room = {queue: self.most_waiting - waiting[queue] for queue in set(messages.QUEUES.values())}
        with self.store.writing() as tx:
            due = self._claim(tx, now, room, found)
        try:
            self.queue.send_all(due)
        except Transient:
            with self.store.writing() as tx:
                tx.due.give_back(due)
            raise
        return len(due)

    def _settle(self, now: datetime) -> frozenset[Work]:
        """Do what is to be done about refused connections, and return what that may have made due."""
        with self.store.writing() as tx:
            tx.refusals.settle(now)
            for provider in self.token_requests_per_minute:
                tx.refusals.begin_trials(provider, now)
        return frozenset({Work.refreshes, Work.syncs})

    def _claim(
        self, tx: Transaction, now: datetime, room: Mapping[str, int], found: frozenset[Work]
    ) -> Sequence[messages.Message]:
        """Claim what was found, in the order of who waits for it, and of each queue no more than it has room for."""
        until = now + self.claim_length
        due: list[messages.Message] = []
        if Work.expiry in found and tx.due.expire_authorizations(now, most_expired):
            found |= {Work.exchanges}
        for kind in (disconnects, revocations, exchanges):
            if kind.work in found:
                due += tx.due.claim(kind, now, until, room[kind.queue])
        for provider in self.token_requests_per_minute:
            if Work.probes in found:
                due += tx.clients.claim_probes(provider, now, until)
            if Work.refreshes in found:
                due += self._claim_refreshes(tx, provider, now, room[refreshes.queue])
        for kind in (calls, syncs):
            if kind.work in found:
                due += tx.due.claim(kind, now, until, room[kind.queue])
        return [*due, *self._claim_published(tx, now, room, found)]

    def _claim_published(
        self, tx: Transaction, now: datetime, room: Mapping[str, int], found: frozenset[Work]
    ) -> Iterator[messages.Message]:
        """Yield what takes events out of the database: to the streams, and to webhooks."""
        if Work.events in found and room["events"] > 0:
            yield messages.publish_events()
        if Work.webhooks in found and room["webhooks"] > 0:
            yield from tx.webhooks.claim(now, now + self.claim_length)

    def _claim_refreshes(self, tx: Transaction, provider: str, now: datetime, room: int) -> Sequence[messages.Message]:
        """Claim as many as the token endpoint's budget, and the queue, have room for now: the rest stays in line, by
        its due time."""
        per_minute = self.token_requests_per_minute[provider]
        free = count_free(tx.paces.get(provider), per_minute, "refresh", now, max(room, 0))
        return tx.due.claim_refreshes(provider, now, now + self.claim_length, free, room)
