"""Each process reports every half minute that it runs: to the database, and by name to Redis.

A name in Redis that the database does not know is of another fleet, which shares the Redis by mistake.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import redis

from config.version import read_version
from models.clock import Anchor, offset
from models.errors import SyncError
from models.process import Process, alive_for, reported_every
from models.store import Store

names_key = "breezesync:processes"


@dataclass(slots=True, eq=False)
class ProcessReporter:
    """Reports with a measurement of the clock, at most every half minute; then hands it to `then`.

    `client` must not be one that waits long.
    """

    store: Store
    client: redis.Redis
    name: str
    role: str
    then: Callable[[Anchor], None]
    reported_at: datetime | None = None

    def __call__(self, measured: Anchor) -> None:
        if self.reported_at is None or measured.fleet - self.reported_at >= reported_every:
            self._report(measured)
        self.then(measured)

    def _report(self, measured: Anchor) -> None:
        ahead = round(offset(measured).total_seconds(), 3)
        process = Process(self.name, self.role, read_version(), ahead, measured.fleet)
        try:
            with self.store.writing() as tx:
                tx.processes.report(process)
            self.client.hset(names_key, self.name, measured.fleet.isoformat())
        except (SyncError, redis.RedisError):
            return  # the next measurement, a few seconds later, tries again
        self.reported_at = measured.fleet


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
