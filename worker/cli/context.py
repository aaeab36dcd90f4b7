"""What a command works with: the settings, the database and Redis, each opened with a clear word where it is away."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from sqlalchemy.engine import make_url

from config.redis_url import show_redis_url
from config.settings import Need, Settings, read_settings
from config.wiring import build_broker, open_redis, open_store
from models.crypto.secrets import Secret
from models.crypto.vault import Vault
from models.errors import StoreUnavailable
from models.queue import Queues
from models.store import Store
from worker.cli.output import CommandFailed
from worker.local.state import running_environment
from worker.tokens.spool import Parking


def settings_for(*needs: Need) -> Settings:
    """The settings, with what a `breezesync run` in this directory chose where nothing is set."""
    given = {name: value for name, value in os.environ.items() if value.strip()}
    return read_settings({**os.environ, **running_environment(), **given}, needs=frozenset(needs))


@contextmanager
def opened_store(settings: Settings) -> Iterator[Store]:
    """The database, reachable and with a schema. Raises `CommandFailed` with the remedy."""
    store = open_store(settings)
    try:
        try:
            with store.reading() as tx:
                revision = tx.overview.revision()
        except StoreUnavailable as away:
            where = show_url(settings.database_url)
            raise CommandFailed(f"The database {where} does not answer: start it, or set DATABASE_URL.") from away
        if revision is None:
            where = show_url(settings.database_url)
            raise CommandFailed(f"The database {where} has no schema yet: breezesync migrate")
        yield store
    finally:
        store.close()


@contextmanager
def opened_queues(settings: Settings) -> Iterator[Queues]:
    """The queues in Redis, reachable. Raises `CommandFailed` with the remedy."""
    client = open_redis(settings.redis_url)
    broker = build_broker(settings)
    try:
        try:
            client.ping()
        except redis.RedisError as away:
            where, why = show_redis_url(settings.redis_url), type(away).__name__
            remedy = "start it, or set REDIS_URL"
            raise CommandFailed(f"Redis at {where} does not answer ({why}): {remedy}.") from away
        yield Queues(broker, client)
    finally:
        client.close()
        broker.client.close()


@contextmanager
def opened_parking(settings: Settings) -> Iterator[Parking]:
    """Where pairs of tokens wait for the database: Redis, which may be away, and this machine's spool."""
    client = open_redis(settings.redis_url, decode=False)
    try:
        yield Parking(Vault(settings.encryption_keys), client, settings.spool)
    finally:
        client.close()


def show_url(url: Secret) -> str:
    """The URL without its password."""
    return make_url(url.reveal()).render_as_string(hide_password=True)
