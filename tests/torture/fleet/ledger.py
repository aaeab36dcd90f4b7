"""What was lost or doubled: the database, the streams and the sandbox's ledger, compared."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg
import redis

from sandbox.client import Control

STREAMS = ("breezesync:events", "breezesync:records")
WORK = """
SELECT count(*) FILTER (WHERE status = 'active' AND (
         refresh_due_at < now() - interval '30 s' OR sync_due_at < now() - interval '30 s')),
       count(*) FILTER (WHERE status = 'active' AND problem IS NOT NULL),
       (SELECT count(*) FROM event WHERE published_at IS NULL AND waits_since < now() - interval '5 s'),
       count(*) FILTER (WHERE status <> 'active'), count(*)
FROM connection
"""


@dataclass(frozen=True, slots=True)
class Work:
    """What is late by half a minute, in trouble or not published yet; of `all` connections, `ended` live no more."""

    late: int
    troubled: int
    unpublished: int
    ended: int
    all: int

    @property
    def is_done(self) -> bool:
        return not (self.late or self.troubled or self.unpublished)


@dataclass(frozen=True, slots=True)
class Counts:
    """Totals so far. `doubled_tokens`, `doubled_codes`: presentations after the one that used a token or code up.

    `repeats`: entries of the streams with an id that was there before, which at-least-once allows.
    `doubled_events`: numbers of a subject that two different events bear. `missing`: published, and on no stream.
    """

    ended: int
    doubled_tokens: int
    doubled_codes: int
    repeats: int
    doubled_events: int
    missing: int

    def __sub__(self, earlier: "Counts") -> "Counts":
        return Counts(*(getattr(self, name) - getattr(earlier, name) for name in Counts.__slots__))


class Listener(threading.Thread):
    """Reads both streams from their beginning, and again after Redis was away."""

    def __init__(self, find_url: Callable[[], str]) -> None:
        super().__init__(daemon=True)
        self.find_url = find_url
        self.ids: dict[str, int] = defaultdict(int)
        self.numbers: dict[tuple[str, str, str], set[str]] = defaultdict(set)
        self.positions = dict.fromkeys(STREAMS, "0")

    def run(self) -> None:
        while True:
            with suppress(redis.RedisError, RuntimeError, ValueError, KeyError):
                self._listen(redis.Redis.from_url(self.find_url(), decode_responses=True, socket_timeout=10))
            time.sleep(0.5)

    def _listen(self, client: Any) -> None:
        while True:
            for stream, entries in client.xread(self.positions, count=1000, block=1000) or ():
                for entry, fields in entries:
                    self.positions[stream] = entry
                    self.ids[fields["id"]] += 1
                    self.numbers[stream, fields["connection_id"], fields["sequence"]].add(fields["id"])


@dataclass
class Ledger:
    """Asks all three; `find_database` returns the URL, which changes with its container."""

    find_database: Callable[[], str]
    listener: Listener
    control: Control

    def work(self) -> Work | None:
        """Return what is to be done; None if the database does not answer."""
        try:
            with psycopg.connect(self.find_database(), connect_timeout=3) as sql:
                row = sql.execute(WORK).fetchone()
        except (psycopg.Error, RuntimeError, ValueError, KeyError):
            return None
        return None if row is None else Work(*row)

    def count(self) -> Counts:
        """Count all, once what was published has been received, or half a minute later."""
        deadline = time.monotonic() + 30
        while (missing := self._missing()) and time.monotonic() < deadline:
            time.sleep(1)
        work, seen = self.work(), self.control.counters()
        codes = sum(max(0, len(code["presentations"]) - 1) for code in seen["codes"])
        return Counts(
            0 if work is None else work.ended,
            seen["reuses"],
            codes,
            sum(times - 1 for times in dict(self.listener.ids).values()),
            sum(len(ids) > 1 for (_, subject, _), ids in dict(self.listener.numbers).items() if subject),
            missing,
        )

    def _missing(self) -> int:
        with psycopg.connect(self.find_database()) as sql:
            rows = sql.execute("SELECT id FROM event WHERE published_at IS NOT NULL").fetchall()
        received = self.listener.ids
        return sum(id_ not in received for (id_,) in rows)
