"""Commands that wait at Redis for as long as nothing happens, and end at once when the worker shuts down."""

import math
from collections.abc import Sequence
from multiprocessing.connection import Pipe, wait
from typing import Any

from dramatiq import Broker, Worker
from dramatiq.middleware import Middleware
from redis.exceptions import TimeoutError as RedisTimeoutError

shortest = 0.1
"""Seconds."""


class Waits(Middleware):
    """The waits of one worker at a time.

    A pipe ends them: closed at one end it is readable at the other, for every thread that waits and from then on.
    """

    def __init__(self) -> None:
        self._ended, self._end = Pipe(duplex=False)

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        self._ended, self._end = Pipe(duplex=False)

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        self._end.close()

    def ask(self, client: Any, *command: Any, seconds: float) -> Any:
        """Send a command that waits, the last argument of which says how long, and return its answer.

        It is sent again after an error, as the client does. Return None if the worker shuts down first, so let it be a
        command that may be given up at any moment.
        """
        connection = client.connection_pool.get_connection()
        try:
            return connection.retry.call_with_retry(
                lambda: self._ask_once(client, connection, command, seconds), lambda error: connection.disconnect()
            )
        finally:
            client.connection_pool.release(connection)

    def _ask_once(self, client: Any, connection: Any, command: Sequence[Any], seconds: float) -> Any:
        # Zero would wait for ever, and a wait as long as the socket's patience looks like an outage. Once the waits are
        # over one can't be cut short, and without any its caller would go round in circles.
        patience = connection.socket_timeout or math.inf
        are_over = self._end.closed
        connection.send_command(*command, shortest if are_over else min(max(seconds, shortest), patience / 2))
        if not are_over and not connection.can_read():
            ready = wait([connection._sock, self._ended], connection.socket_timeout)
            if not ready:
                raise RedisTimeoutError("no answer to a command that waits")
            if connection._sock not in ready:
                connection.disconnect()  # its answer may still come, and is not that of the next command
                return None
        return client.parse_response(connection, command[0])
