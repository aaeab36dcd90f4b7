"""Retry or drop a dead letter, with its line in the audit."""

from collections.abc import Callable

from models.audit.entry import Action, Entry, bound_text
from models.queue import DeadLetter
from models.store import Store


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
