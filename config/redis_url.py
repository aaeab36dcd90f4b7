"""Where Redis is: one server, in the clear, over TLS or through a Unix socket, or the master that sentinels name."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import redis
from redis.connection import parse_url
from redis.sentinel import Sentinel

from config.redis_connections import leaving
from models.crypto.secrets import Secret

expected = (
    "expected redis://USER:PASSWORD@HOST:PORT/NUMBER, rediss://… for TLS, unix:///PATH, "
    "or redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/NUMBER"
)
sentinel_port = 26379
files = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
understood = frozenset({*files, "ssl_cert_reqs", "ssl_check_hostname", "sentinel_username", "sentinel_password", "db"})
url_shape = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://(?P<user>[^@/]*@)?(?P<hosts>[^@/?#]+)/(?P<service>[^/?#]+)(?P<rest>(/\d*)?(\?.*)?)"
)


def parse_redis_url(text: str) -> Secret:
    """The URL, if a client can be made of it. Raises ValueError with what was expected, and no part of the text."""
    try:
        options, sentinels, _ = _read(text)
    except ValueError:
        raise ValueError(expected) from None
    url = urlsplit(text)
    names = {name for name, _ in parse_qsl(url.query, keep_blank_values=True)}
    unknown = sorted(name for name in names if name not in understood)
    if unknown:
        raise ValueError(f"expected no other options than {', '.join(sorted(understood))}; found {', '.join(unknown)}")
    if not sentinels and any(name.startswith("sentinel_") for name in names):
        raise ValueError("sentinel_username and sentinel_password go with redis+sentinel://")
    missing = [name for name in files if name in options and not Path(options[name]).is_file()]
    if missing:
        raise ValueError("\n".join(f"{name}: expected a file that can be read" for name in missing))
    return Secret(text)


def connect(url: Secret, **options: Any) -> redis.Redis:
    """A client of this Redis, whose `options` redis-py understands; through sentinels it follows every failover.

    It does not introduce itself with CLIENT SETINFO, which older servers and our ACL rules refuse.
    """
    found, sentinels, service = _read(url.reveal())
    options["driver_info"] = None
    if not sentinels:
        pool = redis.ConnectionPool.from_url(url.reveal(), **options)
        pool.connection_class = leaving(pool.connection_class)
        return redis.Redis.from_pool(pool)
    its_own = {name: found.pop(f"sentinel_{name}") for name in ("username", "password") if f"sentinel_{name}" in found}
    secure = found.pop("connection_class", None) is not None
    transport = {name: value for name, value in found.items() if name.startswith("ssl_")} | {"ssl": secure}
    timeouts = {name: value for name, value in options.items() if name.startswith("socket_")}
    known = Sentinel(sentinels, sentinel_kwargs={**timeouts, **transport, **its_own})  # type: ignore[no-untyped-call]
    client: redis.Redis = known.master_for(  # type: ignore[no-untyped-call]
        service, **found, **options, **({"ssl": True} if secure else {})
    )
    return client


def show_redis_url(url: Secret) -> str:
    """The URL without its passwords."""
    text = re.sub(r"(?<=://)([^@/:]*):[^@/]*@", r"\1:***@", url.reveal())
    return re.sub(r"(password=)[^&]*", r"\1***", text)


def _read(text: str) -> tuple[dict[str, Any], list[tuple[str, int]], str]:
    """What redis-py reads in the URL, and the sentinels with the service they are asked for. Raises ValueError."""
    shape = url_shape.fullmatch(text)
    if shape is None:
        url = urlsplit(text)
        if url.scheme == "unix" and url.path:
            return dict(parse_url(text)), [], ""  # type: ignore[no-untyped-call]
        if url.scheme not in ("redis", "rediss") or not url.hostname or url.port == 0:
            raise ValueError(expected)
        if not re.fullmatch(r"(/\d*)?", url.path):
            raise ValueError(expected)
        return dict(parse_url(text)), [], ""  # type: ignore[no-untyped-call]
    sentinels = [_read_address(part) for part in shape["hosts"].split(",")]
    options = dict(parse_url(f"{shape['scheme']}://{shape['user'] or ''}sentinels{shape['rest']}"))  # type: ignore[no-untyped-call]
    options.pop("host", None)
    return options, sentinels, shape["service"]


def _read_address(text: str) -> tuple[str, int]:
    """One sentinel's host and port; an IPv6 address is in brackets."""
    url = urlsplit(f"//{text}")
    if not url.hostname or url.port == 0:
        raise ValueError(expected)
    return url.hostname, url.port or sentinel_port
