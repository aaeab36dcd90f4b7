"""What the environment says, as one frozen value, or every problem with it at once."""

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from pydantic_settings import BaseSettings, DotEnvSettingsSource
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from config.profiles import (
    ProfileError,
    means_off,
    name_pattern,
    override_variables,
    profile_directories,
    read_profile,
)
from config.proxies import check_proxies, find_proxies, proxy_variables
from config.redis_url import parse_redis_url
from models.crypto.secrets import Secret
from models.crypto.vault import Key, KeysRejected, parse_keys
from models.oauth.connect_link import origin_of
from models.provider import OAuthClient, Provider
from models.proxies import Proxies

T = TypeVar("T")
Need = Literal["keys", "clients", "links"]
everything: frozenset[Need] = frozenset({"keys", "clients", "links"})
largest_file = 65_536


class SettingsError(Exception):
    """Settings that can't be used; `problems` has every one, by variable, and no secret."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(["the settings have problems:", *(f"  {problem}" for problem in problems)]))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a process is told from outside.

    Of several clients of one provider the first serves new authorizations. The URLs are secrets: they hold passwords.
    `spool` is where new tokens wait while the database is away; `heartbeat_file` is what a watcher of this process
    looks at.
    """

    database_url: Secret = field(default_factory=lambda: Secret("sqlite:///var/breezesync.db"))
    redis_url: Secret = field(default_factory=lambda: Secret("redis://127.0.0.1:6379/0"))
    encryption_keys: tuple[Key, ...] = ()
    connect_secrets: tuple[Secret, ...] = ()
    return_origins: frozenset[str] = frozenset()
    providers: tuple[Provider, ...] = ()
    clients: tuple[OAuthClient, ...] = ()
    events_stream: str = "breezesync:events"
    records_stream: str = "breezesync:records"
    commands_stream: str = "breezesync:commands"
    events_maxlen: int = 1_000_000
    records_maxlen: int = 1_000_000
    sync_interval: timedelta = timedelta(minutes=15)
    sweep_interval: timedelta = timedelta(seconds=1)
    operator_token: Secret | None = None
    spool: Path = Path("var/spool")
    heartbeat_file: Path | None = None
    proxies: Proxies = field(default_factory=Proxies)

    def provider(self, name: str) -> Provider | None:
        """The provider of that name, if it is in use."""
        return next((provider for provider in self.providers if provider.name == name), None)

    def client_for(self, provider: str) -> OAuthClient | None:
        """The client that new authorizations at this provider go through."""
        return next((client for client in self.clients if client.provider == provider), None)


def read_settings(
    environ: Mapping[str, str] | None = None,
    env_file: Path | None = Path(".env"),
    needs: Collection[Need] = everything,
) -> Settings:
    """The settings of this process, from its environment and then from the file; raises `SettingsError`.

    `NAME_FILE` names a file that holds the value of `NAME`. Empty is unset. What is set must be right, whether or not
    it is needed; `needs` says what must be set: encryption keys, a client per provider, the secret of connect links.
    """
    found = _Found(_gather(os.environ if environ is None else environ, env_file))
    default = Settings()
    proxy_texts = {name: found.text(name) or "" for name in proxy_variables}
    usual: tuple[str, ...] = ("breezedoc",)
    names = found.read("PROVIDERS", parse_provider_names, usual)
    settings = Settings(
        database_url=found.read("DATABASE_URL", parse_database_url, default.database_url),
        redis_url=found.read("REDIS_URL", parse_redis_url, default.redis_url),
        encryption_keys=found.read("ENCRYPTION_KEYS", _parse_keys, ()),
        connect_secrets=found.read("CONNECT_SECRET", parse_connect_secrets, ()),
        return_origins=found.read("RETURN_ORIGINS", parse_origins, default.return_origins),
        providers=tuple(provider for name in names for provider in _read_provider(name, found)),
        clients=tuple(client for name in names for client in _read_client(name, found, "clients" in needs)),
        events_stream=found.read("EVENTS_STREAM", parse_stream, default.events_stream),
        records_stream=found.read("RECORDS_STREAM", parse_stream, default.records_stream),
        commands_stream=found.read("COMMANDS_STREAM", parse_stream, default.commands_stream),
        events_maxlen=found.read("EVENTS_MAXLEN", parse_count, default.events_maxlen),
        records_maxlen=found.read("RECORDS_MAXLEN", parse_count, default.records_maxlen),
        sync_interval=found.read("SYNC_INTERVAL", parse_duration, default.sync_interval),
        sweep_interval=found.read("SWEEP_INTERVAL", parse_duration, default.sweep_interval),
        operator_token=found.read("OPERATOR_TOKEN", parse_token, None),
        spool=found.read("SPOOL_DIRECTORY", parse_path, default.spool),
        heartbeat_file=found.read("HEARTBEAT_FILE", parse_path, None),
        proxies=find_proxies(proxy_texts),
    )
    found.problems.extend(check_proxies(proxy_texts))
    if "keys" in needs:
        found.require("ENCRYPTION_KEYS", "keys as id:base64(32 bytes), comma-separated; `breezesync init` makes one")
    if "links" in needs:
        found.require("CONNECT_SECRET", "32 bytes or more; `breezesync init` makes one")
    streams = (settings.events_stream, settings.records_stream, settings.commands_stream)
    if len(set(streams)) < len(streams):
        found.problems.append("EVENTS_STREAM, RECORDS_STREAM, COMMANDS_STREAM: expected three different names")
    if found.problems:
        raise SettingsError(found.problems)
    return settings


@dataclass(frozen=True, slots=True)
class _Found:
    """The variables that were found, and the problems met while they were read."""

    texts: Mapping[str, str]
    problems: list[str] = field(default_factory=list)

    def text(self, name: str) -> str | None:
        """The value of the variable or of the file that `NAME_FILE` names; None where neither is set or fit."""
        value, path = self.texts.get(name, "").strip(), self.texts.get(f"{name}_FILE", "").strip()
        if value and path:
            self.problems.append(f"{name}: set twice, here and by {name}_FILE: expected one of them")
        if value or not path:
            return value or None
        try:
            return _read_file(Path(path))
        except (OSError, ValueError) as trouble:
            reason = trouble.strerror if isinstance(trouble, OSError) else trouble
            self.problems.append(f"{name}_FILE: cannot read {path}: {reason}")
            return None

    def read(self, name: str, parse: Callable[[str], T], default: T) -> T:
        """The parsed value, or the default where there is none; a parser's ValueError says what it expected."""
        text = self.text(name)
        if text is None:
            return default
        try:
            return parse(text)
        except ValueError as trouble:
            self.problems.extend(f"{name}: {line}" for line in str(trouble).splitlines())
            return default

    def require(self, name: str, expected: str) -> None:
        """Note that the variable is missing, unless it is there or already among the problems."""
        given = self.texts.get(name, "").strip() or self.texts.get(f"{name}_FILE", "").strip()
        if not given:
            self.problems.append(f"{name}: missing, expected {expected}")


def parse_database_url(text: str) -> Secret:
    """A SQLite file or a PostgreSQL database."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        url = None
    if url is not None and url.drivername == "postgresql+psycopg":
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


def parse_provider_names(text: str) -> tuple[str, ...]:
    """Names of profiles, each once; a name is part of variables, paths and views."""
    names = tuple(part.strip() for part in text.split(","))
    if not all(re.fullmatch(name_pattern, name) for name in names) or len(set(names)) < len(names):
        raise ValueError("expected different names of small letters, digits and underscores, comma-separated")
    return names


def parse_redirect_uri(text: str) -> str:
    """Where a provider sends its users back to: over https, or on this machine (RFC 8252 §7.3, RFC 9700 §2.1)."""
    origin = origin_of(text)
    local = origin is not None and urlsplit(origin).hostname in ("localhost", "127.0.0.1", "::1")
    if origin is None or "#" in text or not (local or origin.startswith("https://")):
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


def parse_duration(text: str) -> timedelta:
    """A length of time of up to a year: `500ms`, `30s`, `15m`, `2h`, `1d`, or seconds without a unit."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?(ms|s|m|h|d|)", text)
    units = {"ms": 0.001, "s": 1, "": 1, "m": 60, "h": 3600, "d": 86_400}
    length = timedelta(seconds=float(match[1]) * units[match[2]]) if match else timedelta()
    if not timedelta() < length <= timedelta(days=366):
        raise ValueError("expected a length of time like 30s, 15m, 2h or seconds, more than none and up to a year")
    return length


def parse_token(text: str) -> Secret:
    """A text that can stand in an Authorization header (RFC 6750 §2.1)."""
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("expected letters, digits and signs without spaces")
    return Secret(text)


def parse_path(text: str) -> Path:
    """Where a file or directory is or will be."""
    if "\0" in text:
        raise ValueError("expected a path")
    return Path(text)


def parse_client_id(text: str) -> str:
    """A client identifier (RFC 6749 §A.1)."""
    if not re.fullmatch(r"[ -~]{1,255}", text):
        raise ValueError("expected up to 255 letters, digits and signs")
    return text


def parse_client_secret(text: str) -> Secret:
    """A client secret (RFC 6749 §A.2)."""
    if not re.fullmatch(r"[ -~]+", text):
        raise ValueError("expected letters, digits and signs")
    return Secret(text)


def _parse_keys(text: str) -> tuple[Key, ...]:
    try:
        return parse_keys(text)
    except KeysRejected as rejected:
        raise ValueError("\n".join(rejected.problems)) from None


def _read_provider(name: str, found: _Found) -> Iterable[Provider]:
    overrides = {variable: text for variable in override_variables(name) if (text := found.text(variable)) is not None}
    turned_off = {v: "" for v, text in found.texts.items() if not text.strip() and means_off(v, name)}
    try:
        return [read_profile(name, turned_off | overrides, profile_directories())]
    except ProfileError as unfit:
        found.problems.extend(unfit.problems)
        return []


def _read_client(name: str, found: _Found, needed: bool) -> Iterable[OAuthClient]:
    id_name, secret_name, uri_name = (
        f"{name.upper()}_{part}" for part in ("CLIENT_ID", "CLIENT_SECRET", "REDIRECT_URI")
    )
    client_id = found.read(id_name, parse_client_id, None)
    secret = found.read(secret_name, parse_client_secret, None)
    redirect_uri = found.read(uri_name, parse_redirect_uri, None)
    if client_id and secret and redirect_uri:
        return [OAuthClient(provider=name, client_id=client_id, client_secret=secret, redirect_uri=redirect_uri)]
    if needed or client_id or secret or redirect_uri:
        found.require(id_name, "the id of the OAuth client")
        found.require(secret_name, "the secret of the OAuth client")
        found.require(uri_name, "where the provider sends users back to: https, or http on localhost")
    return []


def _gather(environ: Mapping[str, str], env_file: Path | None) -> dict[str, str]:
    """All variables, those of the environment before those of the file, those with a value before empty ones."""
    try:
        source = DotEnvSettingsSource(BaseSettings, env_file=env_file, case_sensitive=True)
    except (OSError, UnicodeDecodeError) as trouble:
        raise SettingsError([f"{env_file}: cannot read it: {trouble}"]) from None
    written = {name: value for name, value in source.env_vars.items() if value is not None}
    return {**environ, **written, **{name: value for name, value in environ.items() if value.strip()}}


def _read_file(path: Path) -> str:
    """What a secret's file holds, without the blanks around it. Raises OSError, or ValueError where it is unfit."""
    with path.open("rb") as file:
        content = file.read(largest_file + 1)
    if len(content) > largest_file:
        raise ValueError("it is too large")
    try:
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    if not text:
        raise ValueError("it is empty")
    return text
