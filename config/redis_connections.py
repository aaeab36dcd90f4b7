"""Connections to Redis that end when their server becomes a replica.

After a failover the old primary is a replica and its sockets stay open: a client that keeps them is refused at each
write, for ever. Only a new connection can lead to the new primary, by DNS, a proxy or a virtual address.
"""

from collections.abc import Callable
from typing import Any

from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError


class _Leaving:
    """What all kinds of connection have in common: an answer that only a replica gives closes them."""

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        read: Callable[..., Any] = super().read_response  # type: ignore[misc]
        try:
            return read(*arguments, **options)
        except ResponseError as error:
            if not is_from_replica(error):
                raise
            disconnect: Callable[[], None] = self.disconnect  # type: ignore[attr-defined]
            disconnect()
            raise RedisConnectionError(f"the server has become a replica: {error}") from error


class PlainConnection(_Leaving, Connection):
    """In the clear."""


class TlsConnection(_Leaving, SSLConnection):
    """Over TLS."""


class UnixConnection(_Leaving, UnixDomainSocketConnection):
    """Through a Unix socket."""


def leaving(kind: type[Any]) -> type[Any]:
    """Return the kind of connection that leaves a replica, in the place of redis-py's own."""
    return {SSLConnection: TlsConnection, UnixDomainSocketConnection: UnixConnection}.get(kind, PlainConnection)


def is_from_replica(error: ResponseError) -> bool:
    """Whether the server refuses because it is a replica, or gave up a blocked command because it became one.

    Before Redis 7 the error of a command inside a script has the script's text before its code.
    """
    return isinstance(error, ReadOnlyError) or str(error).startswith("UNBLOCKED") or "-READONLY " in str(error)
