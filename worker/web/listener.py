"""A second listener in one process: the operator's application, served by a thread of its own."""

import asyncio
import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

import uvicorn
from starlette.types import ASGIApp

most_seconds_to_stop = 2


class Listener(uvicorn.Server):
    """A server that wakes up once a second to renew its Date header, and at once to stop.

    uvicorn's own looks ten times a second whether to stop, which is most of what an idle process does.
    """

    seconds = 1.0

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._told = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), self.seconds)

    def stop(self) -> None:
        """Call it from another thread."""
        self.should_exit = True
        # Race: without a loop it has not begun to wait, and looks before it does; with a closed one it has ended.
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._told.set)


class AddressUnusable(Exception):
    """Nothing can listen there; the text says why."""


def listen_at(host: str, port: int) -> socket.socket:
    """Return a socket that is bound there. Raises `AddressUnusable`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise AddressUnusable(f"{host} is no address of this machine: {error.strerror}") from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        reason = "another process listens there" if error.errno == errno.EADDRINUSE else error.strerror
        raise AddressUnusable(f"cannot listen at {host}:{port}: {reason}") from None
    return listener


@contextmanager
def serving_beside(app: ASGIApp, listener: socket.socket) -> Iterator[None]:
    """Serve the application while the block runs, on an event loop of its own: a flood on another one can't slow it."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=most_seconds_to_stop,
    )
    server = Listener(config)
    thread = Thread(target=server.run, kwargs={"sockets": [listener]}, name="operator", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.stop()
        thread.join(2 * most_seconds_to_stop)
