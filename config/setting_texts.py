"""Read one setting from its text. Each parser raises ValueError with what it expected, and without the text."""

import ipaddress
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from psycopg.pq import Conninfo
from pydantic import PlainValidator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from config.profiles import (
    name_pattern,
)
from models.crypto.secrets import Secret, is_weak
from models.oauth.authorization import Confirmation
from models.origins import is_safe, origin_of

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Address:
    """Where a listener of ours listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


shortest_token = 16


made_by_chance = "expected one made by chance; `openssl rand -hex 32` makes one"


def parse_database_url(text: str) -> Secret:
    """A SQLite file or a PostgreSQL database."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        url = None
    if url is not None and url.drivername == "postgresql+psycopg":
        unknown = sorted(set(url.query) - {option.keyword.decode() for option in Conninfo.get_defaults()})
        if unknown:
            raise ValueError(f"expected only options that PostgreSQL's libpq knows; found {', '.join(unknown)}")
        return Secret(text)
    if (
        url is not None
        and url.drivername in ("sqlite", "sqlite+pysqlite")
        and url.database not in (None, "", ":memory:")
    ):
        return Secret(text)
    raise ValueError("expected sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE")


def parse_connect_secrets(text: str) -> tuple[Secret, ...]:
    """HS256 keys, comma-separated; RFC 7518 §3.2 asks for 32 bytes at least."""
    parts = [part.strip() for part in text.split(",")]
    short = [position for position, part in enumerate(parts, start=1) if len(part.encode()) < 32]
    if short:
        raise ValueError("\n".join(f"secret {position}: expected 32 bytes or more" for position in short))
    weak = [position for position, part in enumerate(parts, start=1) if is_weak(part)]
    if weak:
        raise ValueError("\n".join(f"secret {position}: {made_by_chance}" for position in weak))
    return tuple(Secret(part) for part in parts)


def parse_origins(text: str) -> frozenset[str]:
    """Origins, comma-separated, in the form in which they are compared."""
    origins: set[str] = set()
    for part in (part.strip() for part in text.split(",")):
        origin = origin_of(part)
        if origin is None or urlsplit(part).path not in ("", "/") or set(part) & set("?#"):
            raise ValueError("expected origins like https://app.example.com, comma-separated, without a path")
        origins.add(origin)
    return frozenset(origins)


def parse_confirmation(text: str) -> Confirmation:
    """Who says that a browser is the link's user's."""
    if text not in set(Confirmation):
        raise ValueError(f"expected one of {', '.join(Confirmation)}")
    return Confirmation(text)


def parse_app_name(text: str) -> str:
    """What our pages call the application."""
    if not text.isprintable() or len(text) > 100:
        raise ValueError("expected up to 100 visible characters")
    return text


def parse_provider_names(text: str) -> tuple[str, ...]:
    """Names of profiles, each once; a name is part of variables, paths and views."""
    names = tuple(part.strip() for part in text.split(","))
    if not all(re.fullmatch(name_pattern, name) for name in names) or len(set(names)) < len(names):
        raise ValueError("expected different names of small letters, digits and underscores, comma-separated")
    return names


def parse_redirect_uri(text: str) -> str:
    """Where a provider sends its users back to: over https, or on this machine (RFC 8252 §7.3, RFC 9700 §2.1)."""
    origin = origin_of(text)
    if origin is None or "#" in text or not is_safe(origin):
        raise ValueError("expected an https URL, or http on localhost, without a fragment")
    return text


def parse_stream(text: str) -> str:
    """The key of a Redis stream."""
    if not re.fullmatch(r"[!-~]{1,200}", text):
        raise ValueError("expected up to 200 characters without spaces")
    return text


def parse_count(text: str) -> int:
    """A whole number of at least one."""
    if not re.fullmatch(r"0*[1-9][0-9]{0,17}", text):
        raise ValueError("expected a whole number of 1 or more")
    return int(text)


def parse_token(text: str) -> Secret:
    """A text that an Authorization header can hold (RFC 6750 §2.1)."""
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("expected letters, digits and signs without spaces")
    return Secret(text)


def parse_own_token(text: str) -> Secret:
    """A bearer token that we alone check, and that no one can guess."""
    token = parse_token(text)
    if len(text) < shortest_token or is_weak(text):
        raise ValueError(f"expected {shortest_token} characters or more, {made_by_chance.removeprefix('expected ')}")
    return token


def parse_address(text: str) -> Address:
    """A host and a port, as in 127.0.0.1:8701 or [::1]:8701."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})", text)
    if match is None or int(match[2]) > 65535:
        raise ValueError("expected HOST:PORT, as in 127.0.0.1:8701 or [::1]:8701, or nothing for no listener")
    return Address(match[1].strip("[]"), int(match[2]))


def parse_hook_secret(text: str) -> Secret:
    """The key by which a provider signs its webhooks."""
    if not re.fullmatch(r"[!-~]{16,1024}", text):
        raise ValueError("expected the secret that the provider signs webhooks with, 16 visible characters or more")
    return Secret(text)


def parse_hook_path(text: str) -> Secret:
    """The last part of a webhook's URL, which no one can guess."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{16,200}", text) or is_weak(text):
        raise ValueError("expected 16 letters, digits, '-' or '_' or more; `openssl rand -hex 24` makes one")
    return Secret(text)


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks and addresses, comma-separated."""
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(","))
    except ValueError:
        raise ValueError("expected networks or addresses like 10.0.0.0/8, comma-separated") from None


def parse_path(text: str) -> Path:
    """Where a file or directory is or will be."""
    if "\0" in text:
        raise ValueError("expected a path")
    return Path(text)


def parse_directory(text: str) -> Path:
    """A directory that is there, and whose files can be found."""
    path = parse_path(text)
    if not os.path.isdir(path):
        raise ValueError(f"expected a directory, and there is none at {path}")
    if not os.access(path, os.R_OK | os.X_OK):
        raise ValueError(f"expected a directory that this user may read; {path} is none")
    return path


def parse_client_id(text: str) -> str:
    """A client identifier (RFC 6749 §A.1)."""
    if not re.fullmatch(r"[ -~]{1,255}", text):
        raise ValueError("expected up to 255 letters, digits and signs")
    return text


def parse_client_secret(text: str) -> Secret:
    """A client secret (RFC 6749 §A.2), of which nothing but line ends is cut."""
    text = text.strip("\r\n")
    if not re.fullmatch(r"[ -~]+", text):
        raise ValueError("expected letters, digits and signs")
    return Secret(text)


def parsed(parse: Callable[[str], object]) -> PlainValidator:
    """Return a validator that parses a text without the blanks around it."""
    return PlainValidator(lambda text: parse(text.strip()))
