"""The servers of a run: one PostgreSQL that waits for the disk, one Valkey, one provider."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import make_url

from tests.bench.meters import Meters
from tests.bench.processes import Provider, running_provider
from tests.servers import Postgres, own_postgres, postgres_user, running_valkey, temporary_directory

DURABLE = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    # No checkpoint and no vacuum within a run: they would fall on one side by chance.
    "checkpoint_timeout": "1h",
    "max_wal_size": "16GB",
    "autovacuum": "off",
    "shared_buffers": "256MB",
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.max": "10000",
}


@dataclass(frozen=True, slots=True)
class World:
    """`databases` is the server that makes one for each side; every side has a database of Redis too."""

    databases: Postgres
    redis_url: str
    provider: Provider
    meters: Meters
    directory: Path
    redis_pid: int

    def redis(self, number: int) -> str:
        return f"{self.redis_url.removesuffix('/0')}/{number}"


@contextmanager
def running_world(**settings: str) -> Iterator[World]:
    with (
        own_postgres(postgres_user(), **DURABLE | settings) as postgres,
        running_valkey() as valkey,
        temporary_directory() as directory,
        running_provider(directory) as provider,
    ):
        url = postgres.url.render_as_string(False)
        meters = Meters(url, valkey.url)
        try:
            yield World(Postgres(postgres.url), valkey.url, provider, meters, directory, valkey.process.pid)
        finally:
            meters.close()


def name_of(database_url: str) -> str:
    return make_url(database_url).database or ""
