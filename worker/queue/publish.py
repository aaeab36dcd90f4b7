"""Stored events to the Redis streams: in order per connection, at least once, even if a publisher dies or stalls.

One publisher at a time holds a short lease, so that events leave once in the usual case. The order needs no lease: a
publisher takes the oldest events that have not left, by position, and per connection position, sequence and commit go
the same way. So one that stalled past its lease adds only what another has added already, or what comes next.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from models.errors import RedisUnavailable
from models.messaging.events import StoredEvent, Stream, StreamSettings
from models.queue import find_type
from models.store import Store

batch_size = 500
publish_lease = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class PublishEvents:
    """One publisher at a time empties the outbox; one that finds another at work leaves the rest to it."""

    store: Store
    redis: Redis
    streams: Mapping[Stream, StreamSettings]
    now: Callable[[], datetime]

    def __call__(self) -> None:
        """Empty the outbox; a stream that takes nothing does not keep the other waiting.

        Raises `RedisUnavailable` if events had to stay.
        """
        owner = uuid4().hex
        refusals: dict[Stream, RedisUnavailable] = {}
        try:
            while self._publish_batch(owner, refusals) == batch_size:
                continue
        finally:
            with self.store.writing() as tx:
                tx.outbox.release(owner, self.now())
        for refusal in refusals.values():
            raise refusal

    def _publish_batch(self, owner: str, refusals: dict[Stream, RedisUnavailable]) -> int:
        """Take the oldest events of the streams that refused none, and return how many there were.

        A crash before they are marked repeats them with the same ids.
        """
        now = self.now()
        with self.store.writing() as tx:
            if not tx.outbox.lease(owner, now, now + publish_lease):
                return 0
            batch = tx.outbox.unpublished(self.streams.keys() - refusals.keys(), batch_size)
        if not batch:
            return 0
        errors = self._add([event for _, event in batch])
        with self.store.writing() as tx:
            added = [position for (position, _), error in zip(batch, errors, strict=True) if error is None]
            tx.outbox.mark_published(added, self.now())
        for (_, event), error in zip(batch, errors, strict=True):
            if error is not None and event.stream not in refusals:
                refusals[event.stream] = self._explain(event.stream, error)
        return len(batch)

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
