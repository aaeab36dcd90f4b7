"""Dead letters: messages that failed for good, with their cause."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from redis.exceptions import RedisError

from models.messaging.messages import QUEUES
from models.queue import DeadLetter
from worker.operator.views.sources import Sources

most_each = 50
subjects = ("connection_id", "authorization_id")


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
    with sources.store.reading() as tx:
        now = tx.overview.time()
    try:
        total = sum(depth.dead for depth in sources.queues.depths().values())
        letters = sources.queues.dead_letters(most_each) if total else []
    except RedisError:
        return DeadLettersView(now, None, None)
    return DeadLettersView(now, total, [line_of(letter) for letter in reversed(letters)])


def line_of(letter: DeadLetter) -> DeadLetterLine:
    """Return the line of a dead letter."""
    named = [letter.kwargs[name] for name in subjects if isinstance(letter.kwargs.get(name), str)]
    return DeadLetterLine(
        id=letter.id,
        queue=letter.queue,
        key=letter.key,
        actor=letter.actor,
        arguments=letter.kwargs,
        died_at=letter.died_at,
        cause=letter.error,
        retries=letter.retries,
        can_retry=letter.actor in QUEUES,
        subject_id=str(named[0]) if named else None,
    )
