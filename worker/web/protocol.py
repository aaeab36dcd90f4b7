"""HTTP/1.1 for strangers: each request has a bounded size and time, each client few connections.

uvicorn serves the public listener with `BoundedProtocol`, however it was started: `harden` sees to that.
"""

import asyncio
import inspect
import ipaddress
import logging
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import h11
import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from worker.web.headers import plain_headers

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
unix_peer = "unix"
"""Whoever is at the other end of a Unix socket: a proxy on this machine, for no one else can open it."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one client may take of a process; times in seconds, sizes in bytes.

    `head` bounds the request line with all headers. A request has to arrive whole within `request_time`, the body
    included, and its response has to be taken within `response_time`. `connections` are those of one address,
    `all_connections` those of all; of the addresses in `proxies`, and of a Unix socket, only the latter count.
    """

    head: int = 16_384
    request_time: float = 10
    response_time: float = 60
    idle_time: int = 5
    connections: int = 100
    all_connections: int = 1_000
    proxies: tuple[Network, ...] = ()


@dataclass(slots=True)
class Connections:
    """The open connections of one listener, the oldest first."""

    bounds: Bounds
    all: dict["BoundedProtocol", str] = field(default_factory=dict)
    by_client: dict[str, dict["BoundedProtocol", None]] = field(default_factory=dict)

    def admit(self, arrived: "BoundedProtocol", client: str) -> None:
        """Add a connection; if that is one too many, close the oldest that waits for a request, else this one.

        So whoever opens connections without sending requests closes their own, and locks no one out.
        """
        block = block_of(client)
        own = self.by_client.setdefault(block, {})
        own[arrived] = None
        self.all[arrived] = block
        if len(own) > self.bounds.connections and not is_proxy(client, self.bounds.proxies):
            self._close_one(own, arrived)
        if len(self.all) > self.bounds.all_connections:
            self._close_one(self.all, arrived)

    def forget(self, gone: "BoundedProtocol") -> None:
        block = self.all.pop(gone, None)
        if block is None:
            return
        own = self.by_client[block]
        del own[gone]
        if not own:
            del self.by_client[block]

    def _close_one(self, among: dict["BoundedProtocol", Any], arrived: "BoundedProtocol") -> None:
        chosen = next((each for each in among if not each.is_answering), arrived)
        self.forget(chosen)
        chosen.transport.abort()


quiet_log = logging.getLogger("uvicorn.error.public")
"""What strangers send is no warning: they could fill a disk with it."""
quiet_log.setLevel(logging.ERROR)


class BoundedProtocol(H11Protocol):
    """One connection. `connections` is what its listener has open, set by `harden`."""

    connections_open: Connections
    portion = 4_096
    """Bytes that h11 gets at a time: it counts what is incomplete after each, so the head can't be longer by more."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.bounds = self.connections_open.bounds
        self.conn = h11.Connection(h11.SERVER, self.bounds.head)
        self.timeout_keep_alive = self.bounds.idle_time
        self.deadline: asyncio.TimerHandle | None = None
        self.logger = quiet_log

    @property
    def is_answering(self) -> bool:
        """Whether a whole request has come and its response has not yet gone."""
        return self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # A client that is gone already has no address either: it is no proxy for that.
        if self.client is None and is_unix(transport):
            self.client = (unix_peer, 0)
        self.connections_open.admit(self, self.client[0] if self.client else "")
        self._limit(self.bounds.request_time, self._end_request)

    def connection_lost(self, exc: Exception | None) -> None:
        self._limit(None)
        self._unset_keepalive_if_required()
        self.connections_open.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_answering = self.is_answering
        if self.deadline is None:
            self._limit(self.bounds.request_time, self._end_request)
        for start in range(0, len(data), self.portion):
            if self.transport.is_closing():
                return
            super().data_received(data[start : start + self.portion])
        if self.is_answering and not was_answering:
            self._limit(self.bounds.response_time, self.transport.abort)

    def on_response_complete(self) -> None:
        self._limit(None)
        super().on_response_complete()
        # The next request, or a part of it, had come before.
        if self.is_answering:
            self._limit(self.bounds.response_time, self.transport.abort)
        elif self.cycle is not None and not self.cycle.response_complete:
            self._limit(self.bounds.request_time, self._end_request)

    def _should_upgrade(self) -> bool:
        """Speak nothing but HTTP/1.1, whatever is proposed."""
        return False

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, or too long a one, with the status that h11 proposes, and close."""
        error = sys.exc_info()[1]
        hint = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        self._refuse(hint, msg)

    def _end_request(self) -> None:
        self._refuse(408, "The request took too long.")

    def _refuse(self, status: int, text: str) -> None:
        if self.transport.is_closing():
            return
        has_asked = self.conn.their_state is not h11.IDLE or self.conn.trailing_data[0]
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE) or not has_asked:
            self.transport.abort()
            return
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        headers = [*plain_headers.items(), ("content-type", "text/plain; charset=utf-8"), ("connection", "close")]
        body = text.encode()
        for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        self._limit(self.bounds.idle_time, self.transport.abort)

    def _limit(self, seconds: float | None, then: Callable[[], None] | None = None) -> None:
        """Start the time that the next phase may take in place of the last one's."""
        if self.deadline is not None:
            self.deadline.cancel()
        self.deadline = None if seconds is None or then is None else self.loop.call_later(seconds, then)


def harden(config: uvicorn.Config, bounds: Bounds) -> None:
    """Make a uvicorn that is loading its application serve within these bounds, and say nothing of itself.

    It believes no forwarding headers: `worker.web.guard` does, of the proxies in the settings.
    """
    config.http_protocol_class = type("BoundedProtocol", (BoundedProtocol,), {"connections_open": Connections(bounds)})
    config.encoded_headers = [(name, value) for name, value in config.encoded_headers if name != b"server"]
    config.ws_protocol_class = None
    config.limit_concurrency = None
    config.proxy_headers = False


def harden_caller(bounds: Bounds, stop_seconds: int | None = None) -> None:
    """Harden the uvicorn that is calling our factory; of another server, say that it has to set limits itself.

    When it stops, it waits `stop_seconds` for requests that are under way, unless it was told how long.
    """
    frame = inspect.currentframe()
    while frame is not None:
        config = frame.f_locals.get("self")
        if isinstance(config, uvicorn.Config):
            harden(config, bounds)
            if config.timeout_graceful_shutdown is None:
                config.timeout_graceful_shutdown = stop_seconds
            return
        frame = frame.f_back
    structlog.get_logger("web").warning("listener.unbounded", expected="uvicorn --factory worker.main:web")


def is_unix(transport: asyncio.Transport) -> bool:
    """Return whether the connection came by a Unix socket."""
    wire = transport.get_extra_info("socket")
    return wire is not None and wire.family == socket.AF_UNIX


def is_proxy(client: str, proxies: tuple[Network, ...]) -> bool:
    """Return whether this peer says whose request it passes on."""
    return client == unix_peer or is_in(client, proxies)


def is_in(address: str, networks: tuple[Network, ...]) -> bool:
    """Return whether the address belongs to one of the networks; what is no address does not."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in network for network in networks)


def block_of(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or an IPv6 network of 64 bits, which one customer has."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if not isinstance(found, ipaddress.IPv6Address):
        return str(found)
    return str(found.ipv4_mapped or (int(found) >> 64))
