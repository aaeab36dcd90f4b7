"""Stored events to the Redis streams: in order per connection, at least once, even if a publisher dies or stalls.

One publisher at a time holds a short lease, so that events leave once in the usual case. The order needs no lease: a
publisher takes the oldest events that have not left, by position, and per connection position, sequence and commit go
the same way. So one that stalled past its lease adds only what another has added already, or what comes next.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from models.errors import RedisUnavailable
from models.messaging.events import StoredEvent, Stream, StreamSettings
from models.queue import find_type
from models.store import Store
from models.webhooks.delivery import route
from worker.metrics.counters import Metrics

batch_size = 500
publish_lease = timedelta(seconds=5)


def go_on() -> None:
    """Wait for nothing."""


@dataclass(frozen=True, slots=True)
class PublishEvents:
    """One publisher at a time empties the outbox; one that finds another at work leaves the rest to it."""

    store: Store
    redis: Redis
    streams: Mapping[Stream, StreamSettings]
    now: Callable[[], datetime]
    metrics: Metrics = field(default_factory=Metrics)

    def __call__(self, gather: Callable[[], None] = go_on) -> bool:
        """Empty the outbox; a stream that takes nothing does not keep the other waiting.

        `gather` is called between two batches, to wait for events that then leave together. Return False if another
        publisher is at work, which may leave what it has not read. Raises `RedisUnavailable` if events had to stay.
        """
        owner = uuid4().hex
        refusals: dict[Stream, RedisUnavailable] = {}
        try:
            is_empty = self._empty(owner, refusals, gather)
        except Exception:
            with self.store.repeating() as tx:
                tx.outbox.release(owner)
            raise
        for refusal in refusals.values():
            raise refusal
        return is_empty

    def _empty(self, owner: str, refusals: dict[Stream, RedisUnavailable], gather: Callable[[], None]) -> bool:
        """Publish batch by batch until none is left; return False if another publisher may leave some."""
        batch = self._take(owner, refusals)
        while batch:
            published = self._publish(batch, refusals)
            if len(batch) < batch_size:
                gather()
            batch = self._take(owner, refusals, published)
        return batch is not None

    def _take(
        self, owner: str, refusals: Mapping[Stream, RedisUnavailable], published: Sequence[tuple[int, StoredEvent]] = ()
    ) -> Sequence[tuple[int, StoredEvent]] | None:
        """Lease the outbox and return the oldest events of the streams that refused none; None if another has it.

        The batch before is marked in the same transaction, so that a batch takes one, and is given to the webhooks that
        want it. If there is nothing more to publish, the lease is over. A crash before a batch is marked repeats it
        with the same ids.
        """
        now = self.now()
        with self.store.repeating() as tx:
            if published:
                events = [event for _, event in published]
                tx.webhooks.add_deliveries(route(tx.webhooks.listeners(), events, now))
            if not tx.outbox.lease(owner, now, now + publish_lease, [position for position, _ in published]):
                return None if tx.outbox.is_waiting() else ()
            batch = tx.outbox.unpublished(self.streams.keys() - refusals.keys(), batch_size)
            if not batch:
                tx.outbox.release(owner)
        return batch

    def _publish(
        self, batch: Sequence[tuple[int, StoredEvent]], refusals: dict[Stream, RedisUnavailable]
    ) -> Sequence[tuple[int, StoredEvent]]:
        """Add the events to their streams, and return those that were added, with their positions."""
        errors = self._add([event for _, event in batch])
        self.metrics.count_published(
            event.stream for (_, event), error in zip(batch, errors, strict=True) if error is None
        )
        for (_, event), error in zip(batch, errors, strict=True):
            if error is not None and event.stream not in refusals:
                refusals[event.stream] = self._explain(event.stream, error)
        return [each for each, error in zip(batch, errors, strict=True) if error is None]

    def _add(self, events: list[StoredEvent]) -> list[RedisError | None]:
        """Add all of the batch in its order, whatever its streams, and return of each event the error that it met.

        What a sync changed so comes before the event that says it is completed. If Redis is full or turns read-only in
        the middle, MULTI adds nothing: an event refused alone would come after the next one of its connection. An error
        that shows only as a command runs does not stop the commands behind it.
        """
        pipeline = self.redis.pipeline(transaction=True)
        for event in events:
            settings = self.streams[event.stream]
            pipeline.xadd(settings.key, fields_of(event), maxlen=settings.maxlen, approximate=True)
        try:
            replies = pipeline.execute(raise_on_error=False)
        except RedisError as error:
            raise RedisUnavailable(describe(error)) from error
        return [reply if isinstance(reply, RedisError) else None for reply in replies]

    def _explain(self, stream: Stream, error: RedisError) -> RedisUnavailable:
        key = self.streams[stream].key
        if isinstance(error, ResponseError) and (kind := find_type(self.redis, key)) not in (None, "none", "stream"):
            return RedisUnavailable(f"events wait in the outbox: {key} in Redis is a {kind}, not a stream")
        return RedisUnavailable(describe(error))


def describe(error: RedisError) -> str:
    """Return what an operator is told about events that had to stay."""
    return f"events wait in the outbox: Redis does not take them ({type(error).__name__})"


def fields_of(event: StoredEvent) -> dict[Any, Any]:
    """A stream entry's fields."""
    return {
        "id": event.id,
        "type": event.type,
        "provider": event.provider,
        "user_id": event.user_id,
        "connection_id": event.connection_id,
        "sequence": str(event.sequence),
        "event": event.document,
    }
