"""What a command works with: settings, database and Redis, each with a clear error if it is not available."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from sqlalchemy.engine import make_url

from config.redis_url import show_redis_url
from config.settings import Need, Settings, read_settings
from config.wiring import build_broker, open_redis, open_store
from models.crypto.secrets import Secret
from models.errors import SyncError
from models.queue import Queues
from models.store import Store
from models.store.trouble import Trouble, trouble_of
from worker.cli.output import CommandFailed
from worker.cli.probes import sqlite_file
from worker.local.state import running_environment


def load_settings(*needs: Need) -> Settings:
    """Read the settings; what is not set comes from a `breezesync run` in this directory, if there is one."""
    given = {name: value for name, value in os.environ.items() if value.strip()}
    return read_settings({**os.environ, **running_environment(), **given}, needs=frozenset(needs))


def name_operator() -> str:
    """Return whom the audit names for what a command does: the user of the operating system, if it has a name."""
    try:
        return f"operator:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return "cli"


@contextmanager
def opened_store(settings: Settings) -> Iterator[Store]:
    """Open the database. Raises `CommandFailed` if it does not answer or has no schema; a file is never made."""
    file = sqlite_file(settings)
    if file is not None and not file.exists():
        raise CommandFailed(_describe_absence(settings))
    store = open_store(settings, name_operator())
    try:
        try:
            with store.reading() as tx:
                revision = tx.overview.revision()
        except SyncError as error:
            raise CommandFailed(describe_trouble(settings, error)) from error
        if revision is None:
            raise CommandFailed(_describe_absence(settings))
        yield store
    finally:
        store.close()


def _describe_absence(settings: Settings) -> str:
    """Return what an operator reads without a database; in a directory without settings, it is another's."""
    url = show_url(settings.database_url)
    if "DATABASE_URL" in os.environ or Path(".env").exists():
        return f"The database {url} has no schema yet. Run breezesync migrate."
    return f"There is no database {url}, and no .env in {Path.cwd()}. Run this in breezesync's directory."


@contextmanager
def opened_queues(settings: Settings) -> Iterator[Queues]:
    """Open the queues in Redis. Raises `CommandFailed` if Redis does not answer."""
    client = open_redis(settings.redis_url)
    broker = build_broker(settings)
    try:
        try:
            client.ping()
        except redis.RedisError as error:
            url, why = show_redis_url(settings.redis_url), type(error).__name__
            raise CommandFailed(f"Redis does not answer at {url} ({why}). Start it, or set REDIS_URL.") from error
        yield Queues(broker, client)
    finally:
        client.close()
        broker.client.close()


def show_url(url: Secret) -> str:
    """Return the URL with its password masked."""
    return make_url(url.reveal()).render_as_string(hide_password=True)


def describe_trouble(settings: Settings, error: BaseException) -> str:
    """Return what an operator reads about a database that can't be used, by the error that showed it."""
    return describe(settings, trouble_of(error))


def describe(settings: Settings, trouble: Trouble) -> str:
    return f"The database {show_url(settings.database_url)} {trouble.said}. {trouble.remedy}"
