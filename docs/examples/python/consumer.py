"""Receive breezesync's events: handle each once and miss none, even if consumers die.

Copy this file and write your own `handle`. As it is, it prints each event as a line of JSON, and its counts at the end.
You can run any number of these: Redis delivers each event to one consumer of the group.

    REDIS_URL=redis://127.0.0.1:6379/0 python consumer.py
"""

import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import redis
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

Event = dict[str, Any]
log = logging.getLogger("consumer")
month = 30 * 86_400

# The events that were handled, in the same database that `handle` changes: both commit together, or neither does.
memory_table = """
CREATE TABLE IF NOT EXISTS breezesync_handled
    (id TEXT PRIMARY KEY, stream TEXT NOT NULL, subject TEXT NOT NULL, sequence BIGINT NOT NULL, at BIGINT NOT NULL);
CREATE INDEX IF NOT EXISTS breezesync_handled_order ON breezesync_handled (stream, subject, sequence)
"""
remember = "INSERT INTO breezesync_handled VALUES (:id, :stream, :subject, :sequence, :at) ON CONFLICT DO NOTHING"
# A subject's sequence counts 1, 2, 3 … in each stream: a missing number is a missed event. Only numbers below one that
# arrived some time ago are checked, because until then another consumer, alive or dead, may have the event.
find_gaps = """
WITH settled AS
    (SELECT stream, subject, max(sequence) AS top FROM breezesync_handled WHERE at <= :then GROUP BY stream, subject)
SELECT stream, subject, top - min(sequence) + 1 - count(*) AS missing
FROM breezesync_handled JOIN settled USING (stream, subject) WHERE sequence <= top
GROUP BY stream, subject, top HAVING top - min(sequence) + 1 - count(*) > 0
"""
# Delete the lowest numbers first, so that no gap appears, and never a subject's newest, which the next gap starts from.
forget = """
DELETE FROM breezesync_handled WHERE at < :then AND sequence < (SELECT min(later.sequence) FROM breezesync_handled later
    WHERE later.stream = breezesync_handled.stream AND later.subject = breezesync_handled.subject AND later.at >= :then)
"""


class Consumer:
    """One consumer of a group. `handle` gets a new event and an open transaction; if it raises, the event is retried.

    A consumer that has not acknowledged an entry after `claim_after` seconds counts as dead; a batch must take less.
    """

    def __init__(
        self,
        redis_url: str,
        memory: Engine,
        streams: list[str],
        handle: Callable[[Event, Connection], None],
        group: str = "example",
        claim_after: float = 60,
    ) -> None:
        self.redis: Any = redis.Redis.from_url(redis_url, decode_responses=True, socket_timeout=30)
        self.memory, self.streams, self.handle = memory, streams, handle
        self.group, self.name, self.claim_after = group, f"{socket.gethostname()}-{os.getpid()}", claim_after
        self.events = self.repeats = 0
        with memory.begin() as db:
            for statement in memory_table.split(";"):
                db.execute(text(statement))

    def run(self, stop: threading.Event) -> None:
        """Receive events until `stop` is set, even if Redis is restarted or emptied."""
        joined, looked = False, time.monotonic()
        while not stop.is_set():
            try:
                joined = joined or self.join()
                for stream, entry, fields in self.read():
                    self.take(stream, entry, fields)
                if time.monotonic() - looked > self.claim_after:
                    looked = time.monotonic()
                    self.look_back()
            except (redis.RedisError, SQLAlchemyError) as error:
                # Redis is down, or was emptied and the group with it. Entries that are not acknowledged come again.
                log.warning("trying again in a second: %s", error)
                joined = stop.wait(1)
        with suppress(redis.RedisError):
            self.leave()

    def join(self) -> bool:
        """Create the group if it does not exist, starting at the oldest entry in the stream."""
        for stream in self.streams:
            try:
                self.redis.xgroup_create(stream, self.group, id="0", mkstream=True)
            except redis.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise
        return True

    def read(self) -> Iterator[tuple[str, str, dict[str, str]]]:
        """Yield the entries of dead consumers, then new ones, waiting for them up to a second."""
        idle = round(self.claim_after * 1000)
        for stream in self.streams:
            _, entries, *_ = self.redis.xautoclaim(stream, self.group, self.name, idle, count=100)
            yield from ((stream, entry, fields) for entry, fields in entries)
        new = dict.fromkeys(self.streams, ">")
        for stream, entries in self.redis.xreadgroup(self.group, self.name, new, count=100, block=1000) or ():
            yield from ((stream, entry, fields) for entry, fields in entries)

    def take(self, stream: str, entry: str, fields: dict[str, str]) -> None:
        """Handle an event unless it is a repeat, then acknowledge its entry."""
        try:
            event = json.loads(fields["event"])
            note = {"id": event["id"], "stream": stream, "subject": event["subject"], "at": round(time.time())}
            with self.memory.begin() as db:
                is_new = db.execute(text(remember), {**note, "sequence": int(event["sequence"])}).rowcount == 1
                if is_new:
                    self.handle(event, db)
        except Exception:
            # The other entries go on. This one stays pending until this or another consumer claims it again.
            log.exception("entry %s of %s could not be handled", entry, stream)
            return
        self.events += is_new
        self.repeats += not is_new
        self.redis.xack(stream, self.group, entry)

    def look_back(self) -> None:
        for stream, subject, missing in self.gaps():
            log.warning("missed %s of %s: %s, run breezesync events replay", stream, subject, missing)
        with self.memory.begin() as db:
            db.execute(text(forget), {"then": round(time.time() - month)})

    def gaps(self) -> list[Any]:
        """Return stream, subject and number of missed events; `breezesync events replay` publishes them again."""
        with self.memory.connect() as db:
            return list(db.execute(text(find_gaps), {"then": round(time.time() - 2 * self.claim_after)}))

    def leave(self) -> None:
        """Leave the group, unless entries are still pending for this name: they would be lost."""
        for stream in self.streams:
            if not self.redis.xpending_range(stream, self.group, "-", "+", 1, consumername=self.name):
                self.redis.xgroup_delconsumer(stream, self.group, self.name)


def print_event(event: Event, db: Connection) -> None:
    """Make your own change here, through `db`. What a database cannot undo, such as this line, may happen twice."""
    print(json.dumps(event), flush=True)


def main() -> None:
    logging.basicConfig(format="%(levelname)s %(message)s")
    env = os.environ.get
    consumer = Consumer(
        env("REDIS_URL", "redis://127.0.0.1:6379/0"),
        create_engine(env("MEMORY_URL", "sqlite:///handled.db")),
        [env("EVENTS_STREAM", "breezesync:events"), env("RECORDS_STREAM", "breezesync:records")],
        print_event,
        env("GROUP", "example-python"),
        float(env("CLAIM_AFTER", "60")),
    )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    consumer.run(stop)
    missed = sum(missing for _, _, missing in consumer.gaps())
    print(json.dumps({"events": consumer.events, "repeats": consumer.repeats, "gaps": missed}))


if __name__ == "__main__":
    main()
