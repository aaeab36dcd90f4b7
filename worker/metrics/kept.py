"""Keep what is costly to read for a while, however many ask for it."""

import threading
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

import structlog

Value = TypeVar("Value")
share_of_time = 0.05
"""How much of the time the database may be asked: figures that took a second are kept for twenty."""


class Kept(Generic[Value]):
    """What `read` returned last, read again after `least` seconds at the earliest.

    What took longer than `patience` seconds is read again on a thread of its own, and shown as it was until then: no
    one waits for it twice. What is empty, or could not be read, is not kept: it is read again at the next call.
    """

    def __init__(self, read: Callable[[], Value], least: float, patience: float = 1.0) -> None:
        self.read, self.least, self.patience = read, least, patience
        self._lock = threading.Lock()
        self._found: Value | None = None
        self._until = -1.0
        self._took = 0.0
        self._reader: threading.Thread | None = None

    def get(self) -> Value:
        """Return it. Raises what `read` raises, if this call waits for that."""
        with self._lock:
            if self._found is not None and monotonic() < self._until:
                return self._found
            if self._found is None or self._took <= self.patience:
                return self._read()
            if self._reader is None or not self._reader.is_alive():
                self._reader = threading.Thread(target=self._read_aside, name="kept", daemon=True)
                self._reader.start()
            return self._found

    def _read(self) -> Value:
        began = monotonic()
        try:
            found = self._found = self.read()
        except BaseException:
            self._found = None
            raise
        ended = monotonic()
        # A database that does not answer takes its time for that; it is asked again soon.
        self._took = ended - began if found else 0.0
        self._until = ended + (self.least and max(self.least, self._took / share_of_time))
        return found

    def _read_aside(self) -> None:
        try:
            self._read()
        except Exception as error:
            structlog.get_logger("kept").warning("figures.not_read", error=type(error).__name__)
