"""Stored events to the Redis streams, in order, at least once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from redis import Redis
from redis.exceptions import RedisError

from models.errors import Transient
from models.events import StoredEvent, Stream, StreamSettings
from models.store import Store

batch_size = 500
publish_lease = timedelta(seconds=30)


class RedisUnavailable(Transient):
    """Redis does not answer; events stay in the outbox."""


@dataclass(frozen=True, slots=True)
class PublishEvents:
    """One publisher at a time empties the outbox; one that finds another at work leaves it the rest."""

    store: Store
    redis: Redis
    streams: Mapping[Stream, StreamSettings]
    now: Callable[[], datetime]

    def __call__(self) -> None:
        owner = uuid4().hex
        while self._publish_batch(owner) == batch_size:
            continue
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
        pipeline = self.redis.pipeline(transaction=False)
        for event in events:
            stream = self.streams[event.stream]
            pipeline.xadd(stream.key, fields_of(event), maxlen=stream.maxlen, approximate=True)
        try:
            pipeline.execute()
        except RedisError as error:
            raise RedisUnavailable("events wait in the outbox: Redis does not answer") from error


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
