"""Messages looked at before a consumer works with them, and what is written into those that die."""

from collections.abc import Sequence
from typing import Any

import structlog
from dramatiq import Broker, MessageProxy
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Middleware

from models.messaging.messages import find_fault


class KeepReason(Middleware):
    """Writes into a message that dies at once why it did: Dramatiq notes that only where it tries again."""

    def before_nack(self, broker: Broker, message: MessageProxy) -> None:
        error = message._exception
        if error is None or "traceback" in message.options or not isinstance(broker, RedisBroker):
            return
        message.options["traceback"] = f"{type(error).__name__}: {error}"
        key = f"{broker.namespace}:{message.queue_name}.msgs"
        broker.client.hset(key, message.options["redis_message_id"], message.encode())


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
