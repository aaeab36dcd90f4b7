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
from worker.metrics.counters import Metrics

batch_size = 500
publish_lease = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class PublishEvents:
    """One publisher at a time empties the outbox; one that finds another at work leaves the rest to it."""

    store: Store
    redis: Redis
    streams: Mapping[Stream, StreamSettings]
    now: Callable[[], datetime]
    metrics: Metrics = field(default_factory=Metrics)

    def __call__(self) -> bool:
        """Empty the outbox; a stream that takes nothing does not keep the other waiting.

        Return False if another publisher is at work, which may leave what it has not read. Raises `RedisUnavailable` if
        events had to stay.
        """
        owner = uuid4().hex
        refusals: dict[Stream, RedisUnavailable] = {}
        try:
            is_empty = self._empty(owner, refusals)
        except Exception:
            with self.store.writing() as tx:
                tx.outbox.release(owner, self.now())
            raise
        for refusal in refusals.values():
            raise refusal
        return is_empty

    def _empty(self, owner: str, refusals: dict[Stream, RedisUnavailable]) -> bool:
        """Publish batch by batch and end the lease; return False if another publisher has it."""
        batch = self._take(owner, refusals)
        while batch:
            self._publish(batch, owner, refusals)
            if len(batch) < batch_size:
                return True
            batch = self._take(owner, refusals)
        return batch is not None

    def _take(
        self, owner: str, refusals: Mapping[Stream, RedisUnavailable]
    ) -> Sequence[tuple[int, StoredEvent]] | None:
        """Lease the outbox and return the oldest events of the streams that refused none; None if another has it.

        If there are none, the lease is over.
        """
        now = self.now()
        with self.store.writing() as tx:
            if not tx.outbox.lease(owner, now, now + publish_lease):
                return None
            batch = tx.outbox.unpublished(self.streams.keys() - refusals.keys(), batch_size)
            if not batch:
                tx.outbox.release(owner, now)
        return batch

    def _publish(
        self, batch: Sequence[tuple[int, StoredEvent]], owner: str, refusals: dict[Stream, RedisUnavailable]
    ) -> None:
        """Add the events to their streams and mark those that were; a batch that is not full ends the lease.

        A crash before they are marked repeats them with the same ids.
        """
        errors = self._add([event for _, event in batch])
        now = self.now()
        with self.store.writing() as tx:
            added = [position for (position, _), error in zip(batch, errors, strict=True) if error is None]
            tx.outbox.mark_published(added, now, releasing=owner if len(batch) < batch_size else None)
        self.metrics.count_published(
            event.stream for (_, event), error in zip(batch, errors, strict=True) if error is None
        )
        for (_, event), error in zip(batch, errors, strict=True):
            if error is not None and event.stream not in refusals:
                refusals[event.stream] = self._explain(event.stream, error)

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
