"""Pause, resume, retry, test and remove an endpoint: what needs no key, each with its line in the audit."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from models.audit.entry import Action, Entry
from models.store import Store, Transaction
from models.webhooks import endpoint as rules
from models.webhooks.delivery import begin_trial
from models.webhooks.endpoint import Endpoint

Then = Callable[[Transaction, Endpoint, datetime], None]


@dataclass(frozen=True, slots=True)
class States:
    """Every method returns the endpoint as it is then, or was last, and None if there is none of that name."""

    store: Store

    def pause(self, name: str) -> Endpoint | None:
        """Send nothing until it is resumed; events wait. A test that was not sent yet is not sent."""
        return self.change(name, rules.pause, Action.webhook_paused, _drop_test)

    def resume(self, name: str) -> Endpoint | None:
        """Send what waits, at once."""
        return self.change(name, lambda endpoint, now: rules.resume(endpoint), Action.webhook_resumed, _wake)

    def retry(self, name: str) -> Endpoint | None:
        """Send what waits for its next attempt at once; to one that is paused nothing is sent."""
        return self.change(name, lambda endpoint, now: rules.retry(endpoint), Action.webhook_retried, _wake)

    def test(self, name: str) -> Endpoint | None:
        """Have a worker send a delivery of type `webhook.test`; to one that is paused nothing is sent."""
        return self.change(name, lambda endpoint, now: rules.ask_now(endpoint), Action.webhook_tested, _test)

    def remove(self, name: str) -> Endpoint | None:
        """Delete it with its secret and everything that waits for it."""
        with self.store.writing() as tx:
            found = tx.webhooks.named(name, lock=True)
            if found is not None:
                tx.webhooks.remove(found.id)
                entry = Entry(action=Action.webhook_removed, detail={"webhook": name})
                tx.audit.add(entry, tx.overview.time())
        return found

    def change(
        self, name: str, change: Callable[[Endpoint, datetime], Endpoint], action: Action, then: Then | None = None
    ) -> Endpoint | None:
        """Write what `change` makes of the endpoint, and what `then` does, in one transaction."""
        with self.store.writing() as tx:
            found, now = tx.webhooks.named(name, lock=True), tx.overview.time()
            if found is None:
                return None
            changed = change(found, now)
            tx.webhooks.save(changed)
            if then is not None:
                then(tx, changed, now)
            tx.audit.add(Entry(action=action, detail={"webhook": name}), now)
        return changed


def _wake(tx: Transaction, endpoint: Endpoint, now: datetime) -> None:
    tx.webhooks.wake(endpoint.id, now)


def _drop_test(tx: Transaction, endpoint: Endpoint, now: datetime) -> None:
    """Delete a test that waits: it would count as an event that does."""
    trial = tx.webhooks.trials().get(endpoint.id)
    if trial is not None and trial.due_at is not None:
        tx.webhooks.end_delivery(trial)


def _test(tx: Transaction, endpoint: Endpoint, now: datetime) -> None:
    tx.webhooks.put_delivery(begin_trial(endpoint.id, endpoint.created_at, now))
