"""Dead letters: messages that failed for good, and events that an endpoint did not take, with their cause."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from redis.exceptions import RedisError

from models.messaging.messages import QUEUES
from models.queue import DeadLetter
from worker.operations.dead_letters import is_of_webhook, of_webhooks
from worker.operator.views.sources import Sources

most_each = 50
subjects = ("connection_id", "authorization_id")


@dataclass(frozen=True, slots=True)
class DeadLetterLine:
    """A dead letter.

    id: the message's; of a webhook's the endpoint's name and the event's id.
    queue, key: what an action names it by.
    arguments: its ids.
    cause: the last line of its error.
    retries: how often it was tried again.
    can_retry: whether there is an actor for it.
    endpoint: the name of the endpoint, if it is a webhook's.
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
    endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class DeadLettersView:
    """The newest dead letters of each queue and of webhooks, the newest first; `total` counts all. Both None if Redis
    is away."""

    now: datetime
    total: int | None
    letters: Sequence[DeadLetterLine] | None


def load_dead_letters(sources: Sources) -> DeadLettersView:
    """Load up to 50 dead letters of each queue, and as many of webhooks."""
    counted = sum(load.dead for load in sources.figures.loads().values())
    with sources.store.reading() as tx:
        now, events = tx.overview.time(), of_webhooks(tx, most_each)
    try:
        dead = sum(depth.dead for depth in sources.queues.depths().values())
        messages = sources.queues.dead_letters(most_each) if dead else []
    except RedisError:
        return DeadLettersView(now, None, None)
    letters = sorted([*messages, *events], key=lambda letter: letter.died_at, reverse=True)
    return DeadLettersView(now, dead + max(counted, len(events)), [line_of(letter) for letter in letters])


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
        endpoint=str(letter.kwargs["webhook"]) if is_of_webhook(letter) else None,
    )
