"""End a process in time: what hangs at a stop, in a call that has no limit of its own, must not keep it."""

import os
import threading
from datetime import timedelta

import structlog

longest_stop = timedelta(seconds=28)
"""Counted from SIGTERM; two seconds less than whoever stops us waits before it kills."""


def exit_within(limit: timedelta = longest_stop) -> None:
    """Give this process so long to end by itself; then end it with 1, whatever hangs.

    Everything is safe by then: a message that is not acknowledged is delivered again, a row that is claimed becomes
    claimable again, and a pair whose save hangs was parked.
    """
    timer = threading.Timer(limit.total_seconds(), _end, (limit,))
    timer.daemon = True
    timer.start()


def _end(limit: timedelta) -> None:
    structlog.get_logger("stop").error("stop.forced", seconds=limit.total_seconds())
    os._exit(1)
