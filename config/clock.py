"""The fleet's clock, as one process reads it: the database's time, carried on by the machine's own clocks."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from models.clock import Anchor, Reading, advance, choose, has_stepped, measure, noticeable, offset
from models.errors import SyncError

measured_every = 10.0
"""Seconds between two measurements."""
watched_every = 1.0
"""Seconds between two looks at whether this machine's clock was set."""


def read_machine() -> Reading:
    """Read the time of day, and the time since boot, which goes on while the machine sleeps if the system has that."""
    steady = time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
    return Reading(datetime.now(UTC), timedelta(seconds=steady))


@dataclass(slots=True, eq=False)
class FleetClock:
    """Every process that shares a database reads the same time, whatever its machine's clock says.

    Leases, due times and expiry are compared by it. `ask` returns the database's time. A call asks only if there is no
    measurement yet, or if this machine's clock was set since, because then no time is certain without asking. Otherwise
    a thread measures (see `watch`), and hands each measurement to `on_measured`.
    """

    ask: Callable[[], datetime]
    read: Callable[[], Reading] = read_machine
    on_measured: Callable[[Anchor], None] = lambda measured: None
    anchor: Anchor | None = None
    is_off: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self) -> datetime:
        """Return the fleet's time. Raises `StoreUnavailable` if it is not known and the database does not answer."""
        anchor, reading = self.anchor, self.read()
        if anchor is not None and not has_stepped(anchor, reading):
            return advance(anchor, reading)
        with self.lock:
            # Race: while this thread waited, another one measured.
            if self.anchor is None or has_stepped(self.anchor, self.read()):
                self._measure()
            anchor = self.anchor
        if anchor is None:
            raise AssertionError("a measurement left no anchor")
        return advance(anchor, self.read())

    def measure(self) -> None:
        """Compare this machine's clock with the database's. Raises `StoreUnavailable` if it does not answer."""
        with self.lock:
            measured = self._measure()
        self.on_measured(measured)

    def offset(self) -> timedelta:
        """Return how far this machine's time of day is ahead. Raises `StoreUnavailable` like a call."""
        fleet = self()
        return self.read().wall - fleet

    def stepped(self) -> bool:
        """Return whether this machine's clock was set since the last measurement."""
        anchor = self.anchor
        return anchor is not None and has_stepped(anchor, self.read())

    def watch(self, on_step: Callable[[], None] = lambda: None) -> threading.Thread:
        """Measure every few seconds on a thread of its own, and at once after a step; then call `on_step`, too."""
        thread = threading.Thread(target=self._watch, args=(on_step,), name="fleet-clock", daemon=True)
        thread.start()
        return thread

    def _measure(self) -> Anchor:
        before = self.read()
        fleet = self.ask()
        measured = measure(before, fleet, self.read())
        self.anchor = choose(self.anchor, measured)
        self._report(offset(measured))
        return self.anchor

    def _report(self, ahead: timedelta) -> None:
        """Log once when this machine's clock goes wrong, and once when it is right again."""
        is_off = abs(ahead) > noticeable
        if is_off != self.is_off:
            self.is_off = is_off
            log = structlog.get_logger("clock")
            (log.warning if is_off else log.info)("clock.off" if is_off else "clock.right", ahead=ahead.total_seconds())

    def _watch(self, on_step: Callable[[], None]) -> None:
        passed = measured_every
        while True:
            stepped = self.stepped()
            if stepped or passed >= measured_every:
                passed = 0.0
                try:
                    self.measure()
                except SyncError:
                    passed = measured_every - watched_every
                except Exception:  # whatever it is, the clock must be watched on
                    structlog.get_logger("clock").exception("clock.not_measured")
            if stepped:
                on_step()
            time.sleep(watched_every)
            passed += watched_every
