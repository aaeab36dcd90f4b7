"""Retry or drop a dead letter, a message's or a webhook's, with its line in the audit."""

from collections.abc import Callable, Sequence
from typing import Final

from models.audit.entry import Action, Entry, bound_text
from models.messaging import messages
from models.queue import DeadLetter
from models.store import Store, Transaction
from models.webhooks.delivery import Delivery, letter_prefix, send_again

_of_webhooks: Final = messages.deliver_webhooks("")


def carry_out(store: Store, action: Action, letter: DeadLetter, act: Callable[[DeadLetter], bool]) -> bool:
    """Do it, with its line in the audit; return False if someone else did it first, and then without a line."""
    connection_id = letter.kwargs.get("connection_id")
    with store.writing() as tx:
        done = act(letter)
        if done:
            entry = Entry(
                action=action,
                connection_id=bound_text(connection_id) if isinstance(connection_id, str) else None,
                detail={"id": letter.id, "queue": letter.queue, "actor": letter.actor},
            )
            tx.audit.add(entry, tx.overview.time())
    return done


def of_webhooks(tx: Transaction) -> Sequence[DeadLetter]:
    """Return the events that an endpoint was sent in vain, as letters of the queue `webhooks`.

    The id of one is the endpoint's name and the event's id.
    """
    endpoint_names = tx.webhooks.names()
    return [_to_letter(each, endpoint_names.get(each.webhook_id, each.webhook_id)) for each in tx.webhooks.letters()]


def is_of_webhook(letter: DeadLetter) -> bool:
    """Return whether it is an event's, and not a message's."""
    return letter.queue == _of_webhooks.queue and letter.key.startswith(letter_prefix)


def carry_out_with_webhook(store: Store, action: Action, letter: DeadLetter) -> bool:
    """Send an event again or drop its letter, as `carry_out` does; return False if someone else did it first."""
    webhook_id = str(letter.kwargs["webhook_id"])
    with store.writing() as tx:
        now = tx.overview.time()
        found = tx.webhooks.letter(webhook_id, letter.key)
        if found is None:
            return False
        if action is Action.dead_letter_retried:
            tx.webhooks.save_delivery(send_again(found, now))
        else:
            tx.webhooks.end_delivery(found)
        detail = {"id": letter.id, "queue": letter.queue, "actor": letter.actor}
        tx.audit.add(Entry(action=action, detail=detail), now)
    return True


def _to_letter(delivery: Delivery, name: str) -> DeadLetter:
    return DeadLetter(
        id=f"{name}/{delivery.event_id}",
        key=delivery.key,
        queue=_of_webhooks.queue,
        actor=_of_webhooks.actor,
        kwargs={"webhook_id": delivery.webhook_id, "webhook": name, "event_id": delivery.event_id},
        died_at=delivery.dead_at or delivery.waits_since,
        retries=delivery.attempts,
        error=delivery.error or "",
    )
