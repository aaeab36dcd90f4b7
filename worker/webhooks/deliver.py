"""Send the events that wait for one endpoint: in order for each subject, several subjects at a time.

Who sends to an endpoint holds its lease. A worker that stalls past it sends at most the event that it had begun to
send, which is the one that the next worker begins with: events are repeated, and not reordered.
"""

import ssl
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import uuid4

import httpx
import structlog

from models.audit.entry import Action, Entry
from models.crypto.errors import KeyServiceUnavailable
from models.crypto.sealed_text import Place
from models.crypto.secrets import Secret
from models.crypto.vault import Vault, VaultError
from models.proxies import Proxies
from models.store import Store, Transaction
from models.webhooks.delivery import (
    Delivery,
    Waiting,
    advance,
    begin_next,
    bury,
    end_trial,
    give_up_after,
    is_over,
    retry_later,
)
from models.webhooks.endpoint import Endpoint, note
from models.webhooks.outcome import Delivered, Gone, Outcome, Refused, name_outcome
from worker.metrics.counters import Metrics
from worker.tokens.data_keys import fetching_keys
from worker.webhooks.sending import Parcel, Resolve, Sender, deadline, make_trial, resolve

slice_length = timedelta(seconds=5)
"""After so long a job begins no more deliveries, and the next message goes on."""
lease_length = slice_length + 2 * deadline
at_once = 8
"""Subjects of one endpoint that are sent at a time."""
most_jobs = 2
"""Endpoints that one process works on at a time: its other threads are left to other queues, however slow they are."""
put_off_for = timedelta(seconds=1)
unreadable_for = timedelta(minutes=1)
never_answered = "the endpoint was away for all of its time"
batch = 50
most_expired = 100


def place_of(webhook_id: str, field_name: str) -> Place:
    """Return the place that an endpoint's secret is sealed for."""
    return Place("webhook", webhook_id, field_name, None)


@dataclass(frozen=True, slots=True)
class Job:
    """What one job works with: its lease, until when it begins deliveries, and the open secrets that sign."""

    endpoint: Endpoint
    owner: str
    until: datetime
    send_before: datetime
    secrets: Sequence[Secret]


@dataclass(frozen=True, slots=True)
class DeliverWebhooks:
    """One slice of an endpoint's deliveries."""

    store: Store
    vault: Vault
    now: Callable[[], datetime]
    proxies: Proxies = field(default_factory=Proxies)
    metrics: Metrics = field(default_factory=Metrics)
    resolve: Resolve = resolve
    deadline: timedelta = deadline
    ssl_context: ssl.SSLContext = field(default_factory=httpx.create_ssl_context)
    places: threading.Semaphore = field(default_factory=lambda: threading.BoundedSemaphore(most_jobs))

    def __call__(self, webhook_id: str) -> None:
        if not self.places.acquire(blocking=False):
            with self.store.repeating() as tx:
                tx.webhooks.put_off(webhook_id, self.now() + put_off_for)
            return
        try:
            self._work(webhook_id)
        finally:
            self.places.release()

    def _work(self, webhook_id: str) -> None:
        owner, now = uuid4().hex, self.now()
        with self.store.writing() as tx:
            endpoint = tx.webhooks.lease(webhook_id, owner, now, now + lease_length)
        if endpoint is None:
            return
        not_before: datetime | None = None
        try:
            signing = self.open(endpoint)
            self._send_all(Job(endpoint, owner, now + slice_length, now + lease_length - deadline, signing))
        except (KeyServiceUnavailable, VaultError) as error:
            structlog.get_logger("webhooks").error("webhook.secret_unreadable", webhook=endpoint.name, error=str(error))
            not_before = now + unreadable_for
        finally:
            with self.store.repeating() as tx:
                tx.webhooks.release(webhook_id, owner, not_before)

    @fetching_keys
    def open(self, endpoint: Endpoint) -> Sequence[Secret]:
        """Return the secrets that sign now. Raises `VaultError` and `KeyServiceUnavailable`."""
        signing = endpoint.secrets_at(self.now())
        return [self.vault.open(sealed, place_of(endpoint.id, name)) for name, sealed in signing]

    def _send_all(self, job: Job) -> None:
        """Send what is due, round by round, until nothing is or the slice is over."""
        senders = [
            Sender(job.endpoint, self.proxies, self.now, self.ssl_context, self.resolve, self.deadline)
            for _ in range(at_once)
        ]
        try:
            with ThreadPoolExecutor(at_once, thread_name_prefix="webhooks") as threads:
                while (due := self._find_due(job)) and self.now() < job.until:
                    rounds = threads.map(lambda pair: self._send_subject(job, *pair), zip(due, senders, strict=False))
                    outcomes = [outcome for outcomes in rounds for outcome in outcomes]
                    if not self._note(job, outcomes):
                        return
        finally:
            for sender in senders:
                sender.close()

    def _find_due(self, job: Job) -> Sequence[Delivery]:
        """Return the next subjects; only one while the endpoint is away, to find out whether it is back."""
        now = self.now()
        with self.store.reading() as tx:
            endpoint = tx.webhooks.get(job.endpoint.id)
            if endpoint is None or not endpoint.is_ready(now):
                return []
            return tx.webhooks.due_deliveries(endpoint.id, now, 1 if endpoint.is_away else at_once)

    def _send_subject(self, job: Job, delivery: Delivery, sender: Sender) -> Sequence[Outcome]:
        """Send a subject's events one after the other, until one is not taken, none is left, or the slice is over."""
        if delivery.is_trial:
            return self._send_trial(job, delivery, sender)
        outcomes: list[Outcome] = []
        current: tuple[Delivery, Waiting] | None = self._begin(job, delivery)
        while current is not None and self.now() < job.until:
            delivery, waiting = current
            outcome = sender.send(Parcel(waiting.event.id, waiting.event.document), job.secrets, job.send_before)
            outcomes.append(outcome)
            self.metrics.count_webhook(job.endpoint.name, name_outcome(outcome))
            current = self._save(job, delivery, waiting, outcome)
        return outcomes

    def _send_trial(self, job: Job, delivery: Delivery, sender: Sender) -> Sequence[Outcome]:
        """Send an operator's test once, and keep what became of it.

        It is no event, so no metric counts it. An application that refuses a type which it does not know is no failure
        of the endpoint.
        """
        outcome = sender.send(make_trial(self.now()), job.secrets, job.send_before)
        with self.store.repeating() as tx:
            stored = self._lock(tx, job, delivery)
            if stored is not None:
                tx.webhooks.save_delivery(end_trial(stored, delivery, outcome))
        return [] if isinstance(outcome, Refused) else [outcome]

    def _begin(self, job: Job, delivery: Delivery) -> tuple[Delivery, Waiting] | None:
        """Return a subject with its first event; one that has none ends."""
        with self.store.repeating() as tx:
            stored = self._lock(tx, job, delivery)
            return None if stored is None else self._go_on(tx, job, stored)

    def _save(
        self, job: Job, delivery: Delivery, waiting: Waiting, outcome: Outcome
    ) -> tuple[Delivery, Waiting] | None:
        """Write what became of an event; return the subject with the next one, None if it has to wait or has ended."""
        now = self.now()
        with self.store.repeating() as tx:
            stored = self._lock(tx, job, delivery)
            if stored is None:
                return None
            if isinstance(outcome, Delivered) and stored.event_id is not None:
                tx.webhooks.end_delivery(stored)
                return None
            if isinstance(outcome, Delivered):
                return self._go_on(tx, job, advance(stored, delivery, waiting.event))
            failed = retry_later(stored, outcome, now)
            if isinstance(outcome, Gone) or not is_over(delivery, waiting, now):
                tx.webhooks.save_delivery(failed)
                return None
            return self._give_up(tx, job, delivery, failed, waiting)

    def _give_up(
        self, tx: Transaction, job: Job, read: Delivery, failed: Delivery, waiting: Waiting
    ) -> tuple[Delivery, Waiting] | None:
        """Make the event a dead letter, and go on with the next one."""
        self.metrics.count_webhook(job.endpoint.name, "dead")
        log = structlog.get_logger("webhooks")
        log.warning("webhook.given_up", webhook=job.endpoint.name, event_id=waiting.event.id, error=failed.error)
        tx.webhooks.put_delivery(bury(failed, waiting.event, self.now()))
        if failed.event_id is not None:
            return None
        return self._go_on(tx, job, advance(failed, read, waiting.event))

    def _lock(self, tx: Transaction, job: Job, delivery: Delivery) -> Delivery | None:
        """Return what is stored of a delivery, locked; None if it is gone or the lease is over.

        Race: another worker has the lease since it ran out. Then that one says what becomes of the delivery.
        """
        if not tx.webhooks.has_lease(job.endpoint.id, job.owner, self.now()):
            return None
        return tx.webhooks.lock_delivery(delivery)

    def _go_on(self, tx: Transaction, job: Job, delivery: Delivery) -> tuple[Delivery, Waiting] | None:
        """Write a locked delivery with its next event, or end it if there is none."""
        delivery, following = self._find_next(tx, job.endpoint, delivery)
        if following is None:
            tx.webhooks.end_delivery(delivery)
            return None
        changed = begin_next(delivery, following, self.now()) if delivery.event_id is None else delivery
        tx.webhooks.save_delivery(changed)
        return changed, following

    def _find_next(self, tx: Transaction, endpoint: Endpoint, delivery: Delivery) -> tuple[Delivery, Waiting | None]:
        """Return the first event that the endpoint wants, and the delivery without those before it."""
        while found := tx.webhooks.events_of(delivery, batch):
            for waiting in found:
                if delivery.event_id is not None or endpoint.wants(waiting.event.type):
                    return delivery, waiting
                delivery = advance(delivery, delivery, waiting.event)
        return delivery, None

    def _note(self, job: Job, outcomes: Sequence[Outcome]) -> bool:
        """Write what a round shows of the endpoint; return whether to go on."""
        now = self.now()
        with self.store.writing() as tx:
            before = tx.webhooks.lock_leased(job.endpoint.id, job.owner, now)
            if before is None:
                return False
            if not outcomes:
                return True
            after = note(before, outcomes, now)
            tx.webhooks.save_health(after)
            if before.is_away and not after.is_away:
                tx.webhooks.wake(before.id, now)
            if after.is_gone and not before.is_gone:
                tx.audit.add(Entry(action=Action.webhook_gone, detail={"webhook": before.name}), now)
        self._log_change(before, after)
        if after.is_away:
            self._give_up_old(job)
        return after.is_ready(now)

    def _log_change(self, before: Endpoint, after: Endpoint) -> None:
        log = structlog.get_logger("webhooks").bind(webhook=before.name)
        if after.is_gone and not before.is_gone:
            log.warning("webhook.gone", remedy=f"breezesync webhooks resume {before.name}")
        elif after.failing_since is not None and before.failing_since is None:
            log.warning("webhook.failing", error=after.error)
        elif after.failing_since is None and before.failing_since is not None:
            log.info("webhook.recovered")

    def _give_up_old(self, job: Job) -> None:
        """Give up what has waited for its whole time while the endpoint is away: not each event is tried for it."""
        while self.now() < job.until:
            before = self.now() - give_up_after
            with self.store.reading() as tx:
                expired = tx.webhooks.expired(job.endpoint.id, before, most_expired)
            if sum(self._give_up_subject(job, delivery) for delivery in expired) == 0:
                return

    def _give_up_subject(self, job: Job, delivery: Delivery) -> int:
        """Give up the first events of a subject that have waited for their whole time; return how many."""
        with self.store.repeating() as tx:
            stored = self._lock(tx, job, delivery)
            current = None if stored is None else self._go_on(tx, job, stored)
            given_up = 0
            while current is not None and given_up < batch and is_over(*current, self.now()):
                failed = replace(current[0], error=current[0].error or never_answered)
                current = self._give_up(tx, job, current[0], failed, current[1])
                given_up += 1
        return given_up
