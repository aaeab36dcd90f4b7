"""Show a process's metrics at METRICS_ADDRESS, on a thread of its own."""

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from socket import AF_INET6, SHUT_RDWR, SO_REUSEADDR, SOL_SOCKET
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app

from config.setting_texts import Address

round_seconds = 5.0
request_seconds = 3.0
"""A client that takes longer is dropped: it keeps the next one waiting, and nothing else."""


class _Handler(WSGIRequestHandler):
    timeout = request_seconds

    def handle(self) -> None:
        """Answer one request, and cut its client off when its time is up, however slowly it sends or reads."""
        cut = threading.Timer(request_seconds, self._cut)
        cut.daemon = True
        cut.start()
        try:
            super().handle()
        finally:
            cut.cancel()

    def _cut(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


class _Server(WSGIServer):
    timeout = round_seconds

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that went away."""

    def server_bind(self) -> None:
        """Bind without asking a name server for this machine's name, which may take long."""
        self.socket.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _Server6(_Server):
    address_family = AF_INET6


@dataclass(slots=True, eq=False)
class Exposition:
    """Listens as soon as it can, and tries again every few seconds: a process works without its metrics, too.

    registry: what is shown.
    alone: a file that only one process of a group locks, which is the one that listens; None for a process of its own.
    on_round: called every few seconds.
    """

    address: Address
    registry: CollectorRegistry
    alone: Path | None = None
    on_round: Callable[[], None] = lambda: None
    _is_reported: bool = False
    _lock: int | None = None
    port: int | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        threading.Thread(target=self._run, name="metrics", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            server = self._listen() if self._is_first() else None
            if server is None:
                self.on_round()
                self._stopping.wait(round_seconds)
                continue
            with server:
                while not self._stopping.is_set():
                    server.handle_request()
                    self.on_round()

    def _is_first(self) -> bool:
        """Return whether this process is the one of its group that listens. A process that ends lets another do so."""
        if self.alone is None or self._lock is not None:
            return True
        descriptor = os.open(self.alone, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def _listen(self) -> WSGIServer | None:
        """Return a server that listens; None if that is impossible now, which is logged once."""
        log, app = structlog.get_logger("metrics"), make_wsgi_app(self.registry)
        kind = _Server6 if ":" in self.address.host else _Server
        try:
            server = make_server(self.address.host, self.address.port, app, kind, _Handler)
        except (OSError, OverflowError, UnicodeError) as error:
            if not self._is_reported:
                log.error("metrics.unavailable", error=describe(self.address, error))  # noqa: TRY400 - the text says it all
            self._is_reported = True
            return None
        self.port, self._is_reported = server.server_port, False
        log.info("metrics.listening", address=str(Address(self.address.host, server.server_port)))
        return server


def describe(address: Address, error: Exception) -> str:
    """Return what an operator reads if nothing can listen there."""
    is_taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
    reason = "another process listens there" if is_taken else getattr(error, "strerror", None) or type(error).__name__
    return (
        f"METRICS_ADDRESS: cannot listen at {address}: {reason}. This process works on without metrics and tries "
        "again. Stop what listens there, set METRICS_ADDRESS to another HOST:PORT, or to nothing for none."
    )
