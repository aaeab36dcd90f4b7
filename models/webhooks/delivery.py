"""What an endpoint has yet to be sent about one subject, and when a delivery is tried again, or given up."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from models.backoff import Backoff
from models.messaging.events import StoredEvent, Stream
from models.webhooks.endpoint import wants
from models.webhooks.outcome import Away, Delivered, Gone, Outcome, Refused, describe

give_up_after = timedelta(days=3)
pauses = Backoff.of_seconds(5, 30, 120, 600, 1800, 3600, 7200, 14400)
"""The delays between the attempts of one event; the last one repeats."""
letter_prefix = "event/"
trial_key = "test/webhook"
"""The key of an operator's test. An endpoint has one at most; it stays, no longer due, to show what became of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The events of one subject that an endpoint has not been sent, from a place in each stream on; or one dead letter,
    or an operator's test.

    There is none of a subject of which everything was sent. A subject's events are sent one after the other.

    key: the subject; of a dead letter, which is about one event only, what `letter_key` returns; of a test `trial_key`.
    events_from, records_from: the sequence of the first event of each stream that was not sent; None if all were.
    published_from: when the first of them was published, or before: nothing older is looked for.
    waits_since: since when the first of them has waited.
    due_at: when it is tried next; None of a dead letter, and of a test that was made.
    attempts: how often the first of them was tried.
    dead_at: when a dead letter became one.
    """

    webhook_id: str
    key: str
    published_from: datetime
    waits_since: datetime
    due_at: datetime | None
    events_from: int | None = None
    records_from: int | None = None
    attempts: int = 0
    error: str | None = None
    dead_at: datetime | None = None

    @property
    def event_id(self) -> str | None:
        """The event's id, if it is about one that was given up before."""
        return self.key.removeprefix(letter_prefix) if self.key.startswith(letter_prefix) else None

    @property
    def is_trial(self) -> bool:
        """Whether it is an operator's test."""
        return self.key == trial_key


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that is to be sent, and since when it has waited: since it was stored, or published again."""

    event: StoredEvent
    since: datetime


@dataclass(frozen=True, slots=True)
class Listener:
    """An endpoint by the types of events that it hears of."""

    webhook_id: str
    types: tuple[str, ...]


def letter_key(event_id: str) -> str:
    return f"{letter_prefix}{event_id}"


def route(listeners: Iterable[Listener], events: Sequence[StoredEvent], now: datetime) -> Sequence[Delivery]:
    """Return what events that were published now give each endpoint to do, in the order of their keys.

    In that order they are locked as well, so that two publishers don't wait for each other.
    """
    firsts: dict[tuple[str, str], dict[Stream, int]] = {}
    for listener in listeners:
        for event in events:
            if wants(listener.types, event.type):
                first = firsts.setdefault((listener.webhook_id, event.subject), {})
                first[event.stream] = min(first.get(event.stream, event.sequence), event.sequence)
    return [_begin(key, first, now) for key, first in sorted(firsts.items(), key=lambda each: each[0])]


def _begin(key: tuple[str, str], first: Mapping[Stream, int], now: datetime) -> Delivery:
    return Delivery(
        webhook_id=key[0],
        key=key[1],
        published_from=now,
        waits_since=now,
        due_at=now,
        events_from=first.get("events"),
        records_from=first.get("records"),
    )


def advance(stored: Delivery, read: Delivery, event: StoredEvent) -> Delivery:
    """Return a delivery without an event that was sent or given up; `read` is how it was before that.

    Race: the event, or one before it, was published again meanwhile. Then its place is as low as that asks for, and
    stays so.
    """
    changed = replace(stored, attempts=0, error=None)
    if event.stream == "events":
        same = stored.events_from == read.events_from
        return replace(changed, events_from=event.sequence + 1) if same else changed
    same = stored.records_from == read.records_from
    return replace(changed, records_from=event.sequence + 1) if same else changed


def begin_next(delivery: Delivery, following: Waiting, now: datetime) -> Delivery:
    """Return the delivery with its next event due at once."""
    return replace(delivery, due_at=now, waits_since=following.since)


def retry_later(delivery: Delivery, failed: Refused | Away | Gone, now: datetime) -> Delivery:
    """Return a delivery whose first event was not taken; it is tried again after a pause that grows."""
    attempts = delivery.attempts + 1
    asked_for = failed.retry_after if isinstance(failed, Away) else None
    pause = max(pauses.after(attempts), asked_for or timedelta())
    return replace(delivery, attempts=attempts, due_at=now + pause, error=describe(failed))


def is_over(delivery: Delivery, waiting: Waiting, now: datetime) -> bool:
    """Return whether an event that was not taken is given up: it has waited for its whole time, since it was stored,
    published again, or sent again by an operator."""
    since = waiting.since if delivery.event_id is None else delivery.waits_since
    return now - since >= give_up_after


def bury(delivery: Delivery, event: StoredEvent, now: datetime) -> Delivery:
    """Return the dead letter of an event that is given up."""
    return replace(
        delivery,
        key=letter_key(event.id),
        due_at=None,
        dead_at=now,
        events_from=event.sequence if event.stream == "events" else None,
        records_from=event.sequence if event.stream == "records" else None,
    )


def send_again(letter: Delivery, now: datetime) -> Delivery:
    """Return a dead letter that is due again."""
    return replace(letter, due_at=now, dead_at=None, waits_since=now, attempts=0)


def begin_trial(webhook_id: str, first: datetime, now: datetime) -> Delivery:
    """Return a test that is asked for now. It has been due since `first`, a time before all that waits: so it is sent
    first, also to an endpoint that is sent only one delivery at a time."""
    return Delivery(webhook_id=webhook_id, key=trial_key, published_from=now, waits_since=now, due_at=first)


def end_trial(stored: Delivery, read: Delivery, outcome: Outcome) -> Delivery:
    """Return a test that was made, with what became of it; `read` is how it was before that.

    Race: it was asked for again meanwhile. Then it is made again.
    """
    if stored.waits_since != read.waits_since:
        return stored
    error = None if isinstance(outcome, Delivered) else describe(outcome)
    return replace(stored, due_at=None, attempts=1, error=error)
