"""Which processes' machines have a clock that is off: each process reports itself in Redis, for an operator to see."""

import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import redis

from models.clock import Anchor, noticeable, offset

reports_key = "breezesync:clocks"
valid_for = timedelta(minutes=1)
"""A process measures every few seconds; one that has not reported for so long has ended."""


@dataclass(frozen=True, slots=True)
class ClockReport:
    """How far the clock of a process' machine is ahead of the fleet's, in seconds, and when that was measured."""

    process: str
    ahead: float
    measured_at: datetime


def name_process(role: str) -> str:
    """Return what an operator finds this process by: its role, the host's name and the process' number."""
    return f"{role} {socket.gethostname()}:{os.getpid()}"


@dataclass(slots=True, eq=False)
class ClockReporter:
    """Reports each measurement of a clock that is off, and takes the report back once it is right.

    A Redis that does not answer is asked again by the next measurement. `client` must not be one that waits long.
    """

    client: redis.Redis
    process: str
    is_reported: bool = True  # until the first measurement: a process of the same name may have left a report

    def __call__(self, measured: Anchor) -> None:
        ahead = offset(measured)
        is_off = abs(ahead) > noticeable + measured.precision
        try:
            if is_off:
                report = {"ahead": round(ahead.total_seconds(), 3), "measured_at": measured.fleet.isoformat()}
                self.client.hset(reports_key, self.process, json.dumps(report))
            elif self.is_reported:
                self.client.hdel(reports_key, self.process)
            self.is_reported = is_off
        except redis.RedisError:
            self.is_reported = True


def read_clock_reports(client: redis.Redis, now: datetime) -> Sequence[ClockReport]:
    """Return the processes whose clock is off, and forget those that have ended. `client` decodes its answers.

    `now` is the fleet's time. Raises redis-py's errors.
    """
    names: Any = client.hkeys(reports_key)
    texts: Any = client.hmget(reports_key, names) if names else []
    reports = [_read(name, text) for name, text in zip(names, texts, strict=True) if text is not None]
    ended = [report.process for report in reports if now - report.measured_at > valid_for]
    if ended:
        client.hdel(reports_key, *ended)
    return sorted((each for each in reports if each.process not in ended), key=lambda report: report.process)


def _read(process: str, text: str) -> ClockReport:
    found = json.loads(text)
    return ClockReport(process, float(found["ahead"]), datetime.fromisoformat(found["measured_at"]))
