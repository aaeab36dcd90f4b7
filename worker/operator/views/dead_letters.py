"""Dead letters: messages that failed for good, with their cause."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from worker.operator.views.sources import Sources

most_each = 50


@dataclass(frozen=True, slots=True)
class DeadLetterLine:
    """A dead letter.

    id: the message's.
    queue, key: what an action names it by.
    arguments: its ids.
    cause: the last line of its error.
    retries: how often it was tried again.
    can_retry: whether there is an actor for it.
    subject_id: the connection or authorization that it is about, for a link to its story; None if it names none.
    """

    id: str
    queue: str
    key: str
    actor: str
    arguments: Mapping[str, object]
    died_at: datetime
    cause: str
    retries: int
    can_retry: bool
    subject_id: str | None


@dataclass(frozen=True, slots=True)
class DeadLettersView:
    """The newest dead letters of each queue, the newest first; `total` counts all. Both None if Redis is away."""

    now: datetime
    total: int | None
    letters: Sequence[DeadLetterLine] | None


def load_dead_letters(sources: Sources) -> DeadLettersView:
    """Load up to 50 dead letters of each queue."""
    raise NotImplementedError
