"""Look at what surrounds breezesync, for `doctor`: each returns what it found, and judges nothing."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import httpx
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.redis_url import connect
from config.settings import Settings
from models.crypto.secrets import Secret
from models.errors import RedisUnavailable
from models.health.surroundings import Disk, Refusal, find_kind
from models.http import HttpAnswer, NoAnswer
from models.oauth.client import OAuthClient
from models.provider import Provider
from models.proxies import Proxies

mounts = Path("/proc/self/mounts")
patience = 5.0


def look_at_disk(path: Path) -> Disk:
    """Return the disk that a file or directory is, or would be, on."""
    there = path.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    there = there.resolve()
    table = mounts.read_text(errors="replace") if mounts.exists() else ""
    return Disk(str(path), find_kind(str(there), table), shutil.disk_usage(there).free)


def try_to_write(directory: Path) -> str | None:
    """Return why no file can be written into the directory, None if one can. A directory to be made is not made."""
    there = directory.absolute()
    try:
        while not there.exists() and there != there.parent:
            there = there.parent
        if not there.is_dir():
            return f"{there} is no directory"
        if there != directory.absolute():
            return None if os.access(there, os.W_OK | os.X_OK) else "Permission denied"
        with tempfile.NamedTemporaryFile(dir=there, prefix=".doctor-") as file:
            file.write(b"doctor")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def open_quick_redis(url: Secret) -> redis.Redis:
    """Return a client that gives up after two seconds and tries nothing twice."""
    once = Retry(NoBackoff(), 0)
    return connect(url, socket_timeout=2, socket_connect_timeout=2, retry=once, decode_responses=True)


def try_redis(ask: Callable[[], object]) -> Refusal | None:
    """Return why Redis refuses, by the error that led to all others; None if it does not."""
    try:
        ask()
    except (redis.RedisError, RedisUnavailable) as error:
        kind, words, cause = type(error).__name__, [str(error)], error.__cause__ or error.__context__
        while cause is not None:
            if isinstance(cause, redis.RedisError) and isinstance(error, RedisUnavailable):
                kind = type(cause).__name__
            words.append(str(cause))
            cause = cause.__cause__ or cause.__context__
        return Refusal(kind, "\n".join(words))
    return None


def open_authorize_page(profile: Provider, client: OAuthClient, proxies: Proxies) -> HttpAnswer | NoAnswer:
    """Ask for the page that a user is sent to, as a browser without cookies; nothing is begun by that."""
    asked = {"client_id": client.client_id, "redirect_uri": client.redirect_uri, "response_type": "code"}
    query = urlencode(asked | {"scope": profile.scope, "state": "doctor"})
    joined = "&" if "?" in profile.authorize_url else "?"
    return _get(f"{profile.authorize_url}{joined}{query}", proxies)


def open_callback(client: OAuthClient, proxies: Proxies) -> HttpAnswer | NoAnswer:
    """Ask for the redirect URI without a code, which ends no flow."""
    return _get(client.redirect_uri, proxies)


def sqlite_file(settings: Settings) -> Path | None:
    """Return the database's file, None for PostgreSQL."""
    scheme, _, path = settings.database_url.reveal().partition(":///")
    return Path(path.partition("?")[0].removeprefix("file:")) if scheme.startswith("sqlite") else None


def find_proxy(url: str, proxies: Proxies) -> str | None:
    """Return host and port of the proxy that a request leaves through, None if it leaves directly."""
    parsed = httpx.URL(url)
    proxy = proxies.find(parsed.scheme, parsed.host, parsed.port)
    return None if proxy is None else httpx.URL(proxy.reveal()).netloc.decode()


def _get(url: str, proxies: Proxies) -> HttpAnswer | NoAnswer:
    parsed = httpx.URL(url)
    proxy = proxies.find(parsed.scheme, parsed.host, parsed.port)
    headers = {"Accept": "text/html", "User-Agent": "breezesync doctor"}
    options = {"timeout": patience, "trust_env": False, "proxy": None if proxy is None else proxy.reveal()}
    try:
        with httpx.Client(**options) as client, client.stream("GET", url, headers=headers) as answer:  # type: ignore[arg-type]
            body = next(answer.iter_bytes(1024), b"")
            return HttpAnswer(answer.status_code, dict(answer.headers), body)
    except (httpx.HTTPError, ValueError) as error:
        return NoAnswer(sent=False, why=type(error).__name__)
