"""Hears what breezesync tells: every event handled once, none overlooked, whoever dies in between.

Copy this file and give it a `handle` of your own. By itself it prints each event as a line of JSON, and in the end what
it counted. Any number of these may run: Redis deals each event out to one consumer of the group.

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

# Which events were handled. It stands in the database that handling them changes: both commit together, or neither.
memory_table = """
CREATE TABLE IF NOT EXISTS breezesync_heard
    (id TEXT PRIMARY KEY, stream TEXT NOT NULL, subject TEXT NOT NULL, sequence BIGINT NOT NULL, at BIGINT NOT NULL);
CREATE INDEX IF NOT EXISTS breezesync_heard_order ON breezesync_heard (stream, subject, sequence)
"""
remember = "INSERT INTO breezesync_heard VALUES (:id, :stream, :subject, :sequence, :at) ON CONFLICT DO NOTHING"
# A subject's sequence counts 1, 2, 3 … in each stream: a number that is missing is an event that was missed. It is
# looked for below what was heard a while ago only, for until then another consumer may hold it, or a dead one.
find_gaps = """
WITH settled AS
    (SELECT stream, subject, max(sequence) AS top FROM breezesync_heard WHERE at <= :then GROUP BY stream, subject)
SELECT stream, subject, top - min(sequence) + 1 - count(*) AS missing
FROM breezesync_heard JOIN settled USING (stream, subject) WHERE sequence <= top
GROUP BY stream, subject, top HAVING top - min(sequence) + 1 - count(*) > 0
"""
# From below, so that forgetting makes no gap; and never a subject's newest, from which the next gap is measured.
forget = """
DELETE FROM breezesync_heard WHERE at < :then AND sequence < (SELECT min(later.sequence) FROM breezesync_heard later
    WHERE later.stream = breezesync_heard.stream AND later.subject = breezesync_heard.subject AND later.at >= :then)
"""


class Consumer:
    """One of a group. `handle` gets a new event and an open transaction; an event on which it fails comes again.

    A consumer that leaves an entry unacknowledged for `claim_after` seconds counts as dead: more than a batch takes.
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
        """Listens until `stop` is set. Redis may be away, restarted or emptied in between."""
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
                # Redis is away, or was emptied, and the group with it. What was not acknowledged comes again.
                log.warning("on again in a second: %s", error)
                joined = stop.wait(1)
        with suppress(redis.RedisError):
            self.leave()

    def join(self) -> bool:
        """Makes the group where there is none, to begin with the oldest entry that the stream still has."""
        for stream in self.streams:
            try:
                self.redis.xgroup_create(stream, self.group, id="0", mkstream=True)
            except redis.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise
        return True

    def read(self) -> Iterator[tuple[str, str, dict[str, str]]]:
        """First what dead consumers held, then what is new, for which it waits a second."""
        idle = round(self.claim_after * 1000)
        for stream in self.streams:
            _, entries, *_ = self.redis.xautoclaim(stream, self.group, self.name, idle, count=100)
            yield from ((stream, entry, fields) for entry, fields in entries)
        new = dict.fromkeys(self.streams, ">")
        for stream, entries in self.redis.xreadgroup(self.group, self.name, new, count=100, block=1000) or ():
            yield from ((stream, entry, fields) for entry, fields in entries)

    def take(self, stream: str, entry: str, fields: dict[str, str]) -> None:
        """Handles an event unless that was done before; only then is its entry acknowledged."""
        try:
            event = json.loads(fields["event"])
            note = {"id": event["id"], "stream": stream, "subject": event["subject"], "at": round(time.time())}
            with self.memory.begin() as db:
                is_new = db.execute(text(remember), {**note, "sequence": int(event["sequence"])}).rowcount == 1
                if is_new:
                    self.handle(event, db)
        except Exception:
            # The others go on. This one stays with us and is claimed again, by us or by another consumer.
            log.exception("entry %s of %s could not be handled", entry, stream)
            return
        self.events += is_new
        self.repeats += not is_new
        self.redis.xack(stream, self.group, entry)

    def look_back(self) -> None:
        for stream, subject, missing in self.gaps():
            log.warning("missed %s of %s: %s, ask for a replay", stream, subject, missing)
        with self.memory.begin() as db:
            db.execute(text(forget), {"then": round(time.time() - month)})

    def gaps(self) -> list[Any]:
        """Stream, subject and number of what was missed for good: `breezesync events replay` brings it again."""
        with self.memory.connect() as db:
            return list(db.execute(text(find_gaps), {"then": round(time.time() - 2 * self.claim_after)}))

    def leave(self) -> None:
        """Off the group's list, unless something is still pending here: it would be lost with the name."""
        for stream in self.streams:
            if not self.redis.xpending_range(stream, self.group, "-", "+", 1, consumername=self.name):
                self.redis.xgroup_delconsumer(stream, self.group, self.name)


def print_event(event: Event, db: Connection) -> None:
    """Your change goes here, through `db`. What no database undoes, like this line or an e-mail, may happen twice."""
    print(json.dumps(event), flush=True)


def main() -> None:
    logging.basicConfig(format="%(levelname)s %(message)s")
    env = os.environ.get
    consumer = Consumer(
        env("REDIS_URL", "redis://127.0.0.1:6379/0"),
        create_engine(env("MEMORY_URL", "sqlite:///heard.db")),
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
