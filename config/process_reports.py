"""Each process that lasts reports itself: to the database, with its clock's error, and by name to Redis.

A name in Redis that the database does not know is of another fleet, which shares the Redis by mistake.
"""

import os
import socket
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import redis
import structlog
from sqlalchemy.exc import SQLAlchemyError

from models.clock import Anchor, certain_offset
from models.errors import SyncError
from models.process import Process, alive_for
from models.store import Store

names_key = "breezesync:processes"
every = 3
"""Reports are written with every third measurement of the clock: about twice a minute."""


def name_process(role: str) -> str:
    """Return what an operator finds this process by: its role, the host's name and the process's number."""
    return f"{role} {socket.gethostname()}:{os.getpid()}"


@dataclass(slots=True, eq=False)
class ProcessReporter:
    """Writes the process's row and name with a measurement of its clock; what does not take it is asked again.

    A clock that goes wrong, or is right again, is reported at once.
    `client` must not be one that waits long.
    """

    store: Store
    client: redis.Redis
    name: str
    role: str
    version: str
    measurements: int = 0
    is_off: bool = False

    def __call__(self, measured: Anchor) -> None:
        ahead = round(certain_offset(measured).total_seconds(), 3)
        is_turn = self.measurements % every == 0 or (ahead != 0) != self.is_off
        self.measurements += 1
        if not is_turn:
            return
        try:
            with self.store.writing() as tx:
                tx.processes.report(Process(self.name, self.role, self.version, measured.fleet, ahead))
            # Only now: a name that the database does not know would look like another fleet's.
            self.client.hset(names_key, self.name, measured.fleet.isoformat())
            self.is_off = ahead != 0
        except (SyncError, SQLAlchemyError, redis.RedisError) as error:
            self.measurements = 0
            structlog.get_logger("process").debug("process.not_reported", error=type(error).__name__)


def read_names(client: redis.Redis, now: datetime) -> Collection[str]:
    """Return the processes that have reported to this Redis lately, and forget the others. Raises redis-py's errors.

    `now` is the fleet's time; `client` decodes its answers.
    """
    names: Any = client.hkeys(names_key)
    texts: Any = client.hmget(names_key, names) if names else []
    seen = {name: datetime.fromisoformat(text) for name, text in zip(names, texts, strict=True) if text is not None}
    ended = [name for name, at in seen.items() if now - at > alive_for]
    if ended:
        client.hdel(names_key, *ended)
    return sorted(set(seen) - set(ended))
