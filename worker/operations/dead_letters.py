"""Retry or drop a dead letter, a message's or a webhook's, with its line in the audit."""

from collections.abc import Callable, Sequence
from typing import Final

from models.audit.entry import Action, Entry, bound_text
from models.messaging import messages
from models.queue import DeadLetter, Queues, queue_names
from models.store import Store, Transaction
from models.webhooks.delivery import Delivery, letter_key, send_again
from models.webhooks.endpoint import Endpoint

_of_webhooks: Final = messages.deliver_webhooks("")
_between: Final = "."
"""Between an endpoint's id and an event's, in the key of a webhook's dead letter; no message's key has one."""


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


def find(store: Store, queues: Queues, queue: str, key: str) -> DeadLetter | None:
    """Return one dead letter, a message's or a webhook's; None if there is none. Raises redis-py's errors."""
    if queue == _of_webhooks.queue and _between in key:
        webhook_id, _, event_id = key.partition(_between)
        with store.reading() as tx:
            found, endpoint = tx.webhooks.letter(webhook_id, letter_key(event_id)), tx.webhooks.get(webhook_id)
        return None if found is None else _to_letter(found, webhook_id if endpoint is None else endpoint.name)
    return queues.dead_letter(queue, key) if queue in queue_names else None


def of_webhooks(tx: Transaction, most: int | None = None) -> Sequence[DeadLetter]:
    """Return the events that an endpoint was sent in vain, or the newest, as letters of the queue `webhooks`.

    The id of one is the endpoint's name and the event's id.
    """
    endpoint_names = tx.webhooks.names()
    return [
        _to_letter(each, endpoint_names.get(each.webhook_id, each.webhook_id)) for each in tx.webhooks.letters(most)
    ]


def is_of_webhook(letter: DeadLetter) -> bool:
    """Return whether it is an event's, and not a message's."""
    return letter.queue == _of_webhooks.queue and _between in letter.key


def carry_out_with_webhook(store: Store, action: Action, letter: DeadLetter) -> bool:
    """Send an event again or drop its letter, as `carry_out` does; return False if someone else did it first."""
    webhook_id = str(letter.kwargs["webhook_id"])
    with store.writing() as tx:
        now = tx.overview.time()
        found = tx.webhooks.letter(webhook_id, letter_key(str(letter.kwargs["event_id"])), lock=True)
        if found is None:
            return False
        if action is Action.dead_letter_retried:
            tx.webhooks.save_delivery(send_again(found, now))
        else:
            tx.webhooks.end_delivery(found)
        detail = {"id": letter.id, "queue": letter.queue, "actor": letter.actor}
        tx.audit.add(Entry(action=action, detail=detail), now)
    return True


def retry_letters(store: Store, endpoint: Endpoint) -> Sequence[str]:
    """Send all dead letters of an endpoint again, each with its line in the audit; return the ids of their events."""
    with store.reading() as tx:
        letters = [_to_letter(each, endpoint.name) for each in tx.webhooks.letters() if each.webhook_id == endpoint.id]
    retried = Action.dead_letter_retried
    return [str(each.kwargs["event_id"]) for each in letters if carry_out_with_webhook(store, retried, each)]


def _to_letter(delivery: Delivery, name: str) -> DeadLetter:
    return DeadLetter(
        id=f"{name}/{delivery.event_id}",
        key=f"{delivery.webhook_id}{_between}{delivery.event_id}",
        queue=_of_webhooks.queue,
        actor=_of_webhooks.actor,
        kwargs={"webhook_id": delivery.webhook_id, "webhook": name, "event_id": delivery.event_id},
        died_at=delivery.dead_at or delivery.waits_since,
        retries=max(delivery.attempts - 1, 0),
        error=delivery.error or "",
    )
