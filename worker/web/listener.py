"""A second listener in one process: the operator's application, served by a thread of its own."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import uvicorn
from starlette.types import ASGIApp

most_seconds_to_stop = 2


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
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, kwargs={"sockets": [listener]}, name="operator", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(2 * most_seconds_to_stop)
