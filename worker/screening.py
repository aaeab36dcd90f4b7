"""Messages looked at before any consumer works with them: one that nobody can work with is a dead letter at once."""

from collections.abc import Sequence
from typing import Any

import structlog
from dramatiq.brokers.redis import RedisBroker

from models.messages import find_fault


class ScreenedBroker(RedisBroker):
    """A Redis broker that sorts out what is no message.

    Dramatiq's consumer ends at the first text that it can't read and forgets the good messages that it had fetched
    with it, and a message that names another queue than the one it lay in ends a worker's thread.
    """

    def do_fetch(self, queue_name: str, count: int) -> Sequence[bytes]:
        """What the consumer of a queue is to work on next: up to `count` messages."""
        fetched: Sequence[bytes | None] = self._dispatch("fetch")(queue_name, count)  # type: ignore[no-untyped-call]
        good = [text for text in fetched if text is not None and find_fault(text, queue_name) is None]
        if len(good) < len(fetched):
            self._bury(queue_name)
        return good

    def _bury(self, queue_name: str) -> None:
        """Finds the ids of what was fetched and is no message: only the queue knows them."""
        client: Any = self.client
        key = f"{self.namespace}:__acks__.{self.broker_id}.{queue_name}"
        ids = list(client.smembers(key))
        texts = client.hmget(f"{self.namespace}:{queue_name}.msgs", ids) if ids else []
        for message_id, text in zip(ids, texts, strict=True):
            fault = "its text is gone" if text is None else find_fault(text, queue_name)
            if fault is not None:
                self._dispatch("nack")(queue_name, message_id)  # type: ignore[no-untyped-call]
                structlog.get_logger("queue").error("message.unreadable", queue=queue_name, fault=fault)
