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
from redis.exceptions import RedisError

from models.errors import RedisUnavailable
from models.messaging.events import StoredEvent, Stream, StreamSettings
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
        owner = uuid4().hex
        try:
            while self._publish_batch(owner) == batch_size:
                continue
        finally:
            with self.store.writing() as tx:
                tx.outbox.release(owner, self.now())

    def _publish_batch(self, owner: str) -> int:
        """Takes the oldest unpublished events; a crash before they are marked repeats them with the same ids."""
        now = self.now()
        with self.store.writing() as tx:
            if not tx.outbox.lease(owner, now, now + publish_lease):
                return 0
            batch = tx.outbox.unpublished(batch_size)
        if not batch:
            return 0
        self._add([event for _, event in batch])
        with self.store.writing() as tx:
            tx.outbox.mark_published([position for position, _ in batch], self.now())
        return len(batch)

    def _add(self, events: list[StoredEvent]) -> None:
        """Add all of the batch, or nothing if Redis is full or turns read-only in the middle: an event refused alone
        would come after the next one of its connection."""
        pipeline = self.redis.pipeline(transaction=True)
        for event in events:
            stream = self.streams[event.stream]
            pipeline.xadd(stream.key, fields_of(event), maxlen=stream.maxlen, approximate=True)
        try:
            pipeline.execute()
        except RedisError as error:
            why = type(error).__name__
            raise RedisUnavailable(f"events wait in the outbox: Redis does not take them ({why})") from error


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
