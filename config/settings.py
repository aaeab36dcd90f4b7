"""What the environment says, as one frozen value, or every problem with it at once."""

import ipaddress
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from psycopg.pq import Conninfo
from pydantic import Field, PlainValidator, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from config.durations import parse_duration
from config.encryption import (
    check_encryption,
    parse_encryption_keys,
    parse_key_ids,
    parse_mount,
    parse_name,
    parse_public_key,
    parse_server_url,
)
from config.env_file import EnvFileError, read_env_file
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
from models.crypto.secrets import Secret, is_weak
from models.crypto.transit_settings import TransitSettings
from models.crypto.vault import Key, SealingKey
from models.oauth.authorization import Confirmation
from models.oauth.client import OAuthClient, Registration, callback_path, find_path_prefix
from models.oauth.connect_link import is_safe, origin_of
from models.provider import Provider
from models.proxies import Proxies

Need = Literal["keys", "sealing", "clients", "registrations", "links"]
everything: frozenset[Need] = frozenset({"keys", "clients", "links"})
largest_file = 65_536
shortest_token = 16
made_by_chance = "expected one made by chance; `breezesync init` makes one"


class SettingsError(Exception):
    """Settings that can't be used; `problems` has every one, by variable, and no secret."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(["the settings have problems:", *(f"  {problem}" for problem in problems)]))
        self.problems = problems


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Address:
    """Where a listener of ours listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one process.

    Of several clients of one provider the first serves new authorizations. The URLs are secrets: they hold passwords.
    `sealing_key` seals codes, and follows from `encryption_keys` if it is not set; `transit` wraps data keys in place
    of the first of them. `without_keys` are those that may be missing though texts need them. `registrations` are the
    clients with and without a secret.
    `confirmation` is who says that a browser is the link's user's; `app_name` is the application's name on our pages,
    where an empty one is replaced by the OAuth client's id.
    The web process answers health checks and metrics at `operator_address`, or nowhere if it is None; it believes the
    forwarding headers of `trusted_proxies` only.
    `spool` is where new tokens wait while the database is away; `heartbeat_file` is the file
    whose age a health check reads.
    """

    database_url: Secret = field(default_factory=lambda: Secret("sqlite:///var/breezesync.db"))
    redis_url: Secret = field(default_factory=lambda: Secret("redis://127.0.0.1:6379/0"))
    encryption_keys: tuple[Key, ...] = ()
    sealing_key: SealingKey | None = None
    transit: TransitSettings | None = None
    without_keys: frozenset[str] = frozenset()
    connect_secrets: tuple[Secret, ...] = ()
    return_origins: frozenset[str] = frozenset()
    confirmation: Confirmation = Confirmation.page
    app_name: str = ""
    providers: tuple[Provider, ...] = ()
    clients: tuple[OAuthClient, ...] = ()
    registrations: tuple[Registration, ...] = ()
    events_stream: str = "breezesync:events"
    records_stream: str = "breezesync:records"
    commands_stream: str = "breezesync:commands"
    events_maxlen: int = 1_000_000
    records_maxlen: int = 1_000_000
    sync_interval: timedelta = timedelta(minutes=15)
    sweep_interval: timedelta = timedelta(seconds=1)
    operator_token: Secret | None = None
    operator_address: Address | None = Address("127.0.0.1", 8701)
    trusted_proxies: tuple[Network, ...] = ()
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
    it is needed; `needs` says what must be set: encryption keys, or only what seals; a client per provider, or only its
    registration; the secret of connect links.
    """
    found = _Found(_gather(os.environ if environ is None else environ, env_file))
    proxy_texts = {name: found.text(name) or "" for name in proxy_variables}
    fixed = _read_group(_Variables, found)
    names = fixed.pop("providers", ("breezedoc",))
    transit = _read_transit(found)
    providers = tuple(provider for name in names for provider in _read_provider(name, found))
    registrations = tuple(client for name in names for client in _read_client(name, found, needs))
    if found.is_empty("OPERATOR_ADDRESS"):
        fixed["operator_address"] = None
    settings = Settings(
        **fixed | check_encryption(fixed, found.problems),
        transit=transit,
        providers=tuple(_with_prefix(provider, registrations) for provider in providers),
        registrations=registrations,
        clients=tuple(client for client in registrations if isinstance(client, OAuthClient)),
        proxies=find_proxies(proxy_texts),
    )
    found.problems.extend(check_proxies(proxy_texts))
    if "keys" in needs:
        found.require("ENCRYPTION_KEYS", "keys as id:base64(32 bytes), comma-separated; `breezesync init` makes one")
    if "sealing" in needs and settings.sealing_key is None:
        found.require("SEALING_KEY", "id:base64 as `breezesync keys sealing-key` prints it, or ENCRYPTION_KEYS")
    if "links" in needs:
        found.require("CONNECT_SECRET", "32 bytes or more; `breezesync init` makes one")
    streams = (settings.events_stream, settings.records_stream, settings.commands_stream)
    if len(set(streams)) < len(streams):
        found.problems.append("EVENTS_STREAM, RECORDS_STREAM, COMMANDS_STREAM: expected three different names")
    found.problems.extend(_find_shared_secrets(settings))
    found.problems.extend(_find_clear_text(settings))
    if found.problems:
        raise SettingsError(found.problems)
    return settings


def _find_shared_secrets(settings: Settings) -> Iterable[str]:
    """An application knows CONNECT_SECRET: a key that is the same opens every token to whoever reads its settings."""
    texts = {form for key in settings.encryption_keys for form in (key.line(), key.material)}
    if any(_same_bytes(secret, text) for secret in settings.connect_secrets for text in texts):
        yield "CONNECT_SECRET: expected another value than that of ENCRYPTION_KEYS"
    if settings.operator_token is not None and settings.operator_token in {*settings.connect_secrets, *texts}:
        yield "OPERATOR_TOKEN: expected another value than that of CONNECT_SECRET and ENCRYPTION_KEYS"


def _same_bytes(one: Secret, other: Secret) -> bool:
    """Whether two secrets are the same, in whichever alphabet of base64 and with or without its padding."""
    first, second = (each.reveal().rstrip("=").translate(_standard_base64) for each in (one, other))
    return first == second


_standard_base64 = str.maketrans("-_", "+/")


def _find_clear_text(settings: Settings) -> Iterable[str]:
    """Users who come over https go back over https; their own machine excepted."""
    secure = any(client.redirect_uri.startswith("https://") for client in settings.registrations)
    for origin in sorted(settings.return_origins) if secure else ():
        if not is_safe(origin):
            yield f"RETURN_ORIGINS: expected https, as in the redirect URI: {origin}"


@dataclass(frozen=True, slots=True)
class _Found:
    """The variables that were found, and the problems met while they were read."""

    texts: Mapping[str, str]
    problems: list[str] = field(default_factory=list)

    def text(self, name: str) -> str | None:
        """Return the value of `NAME`, or of the file that `NAME_FILE` names; None if neither is set and usable."""
        value, path = self.texts.get(name, ""), self.texts.get(f"{name}_FILE", "").strip()
        if value.strip() and path:
            self.problems.append(f"{name}: set twice, here and by {name}_FILE: expected one of them")
        if value.strip() or not path:
            return value if value.strip() else None
        try:
            return _read_file(Path(path))
        except (OSError, ValueError) as trouble:
            reason = trouble.strerror if isinstance(trouble, OSError) else trouble
            self.problems.append(f"{name}_FILE: cannot read {path}: {reason}")
            return None

    def is_empty(self, name: str) -> bool:
        """Return whether the variable is there and says nothing: for some that is a value."""
        given = self.texts.get(name)
        return given is not None and not given.strip() and not self.texts.get(f"{name}_FILE", "").strip()

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


def _parsed(parse: Callable[[str], object]) -> PlainValidator:
    """Return a validator that parses a text without the blanks around it."""
    return PlainValidator(lambda text: parse(text.strip()))


class _FoundSource(PydanticBaseSettingsSource):
    """What was found for the fields of one group, by `NAME` or `NAME_FILE`."""

    def __init__(self, settings_cls: type[BaseSettings], found: _Found, prefix: str, without: Collection[str]) -> None:
        super().__init__(settings_cls)
        self.found, self.prefix, self.without = found, prefix, without

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[str | None, str, bool]:
        key = field.alias or field_name
        return (None if key in self.without else self.found.text((self.prefix + key).upper())), key, False

    def __call__(self) -> dict[str, Any]:
        values = (self.get_field_value(field, name) for name, field in self.settings_cls.model_fields.items())
        return {key: text for text, key, _ in values if text is not None}


class _Group(BaseSettings):
    """Variables that are read together, from what was found and from nothing else."""

    model_config = SettingsConfigDict(
        frozen=True, arbitrary_types_allowed=True, validate_default=False, hide_input_in_errors=True
    )

    def __init__(self, found: _Found, prefix: str, without: Collection[str] = ()) -> None:
        origin: dict[str, Any] = {"found": found, "prefix": prefix, "without": without}
        super().__init__(**origin)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        assert isinstance(init_settings, InitSettingsSource)  # noqa: S101 - pydantic-settings always passes one
        return (_FoundSource(settings_cls, **init_settings.init_kwargs),)


class _Variables(_Group):
    """The variables whose names are fixed; each field is the one of `Settings` that it sets."""

    database_url: Annotated[Secret | None, _parsed(parse_database_url)] = None
    redis_url: Annotated[Secret | None, _parsed(parse_redis_url)] = None
    encryption_keys: Annotated[tuple[Key, ...], _parsed(parse_encryption_keys)] = ()
    sealing_key: Annotated[SealingKey | None, _parsed(parse_public_key)] = None
    without_keys: Annotated[frozenset[str], _parsed(parse_key_ids)] = frozenset()
    connect_secrets: Annotated[tuple[Secret, ...], _parsed(parse_connect_secrets)] = Field((), alias="CONNECT_SECRET")
    return_origins: Annotated[frozenset[str], _parsed(parse_origins)] = frozenset()
    confirmation: Annotated[Confirmation, _parsed(parse_confirmation)] = Field(
        Confirmation.page, alias="CONNECT_CONFIRMATION"
    )
    app_name: Annotated[str, _parsed(parse_app_name)] = ""
    providers: Annotated[tuple[str, ...], _parsed(parse_provider_names)] = ()
    events_stream: Annotated[str, _parsed(parse_stream)] = ""
    records_stream: Annotated[str, _parsed(parse_stream)] = ""
    commands_stream: Annotated[str, _parsed(parse_stream)] = ""
    events_maxlen: Annotated[int, _parsed(parse_count)] = 0
    records_maxlen: Annotated[int, _parsed(parse_count)] = 0
    sync_interval: Annotated[timedelta | None, _parsed(parse_duration)] = None
    sweep_interval: Annotated[timedelta | None, _parsed(parse_duration)] = None
    operator_token: Annotated[Secret | None, _parsed(parse_own_token)] = None
    operator_address: Annotated[Address | None, _parsed(parse_address)] = None
    trusted_proxies: Annotated[tuple[Network, ...], _parsed(parse_networks)] = ()
    spool: Annotated[Path | None, _parsed(parse_path)] = Field(None, alias="SPOOL_DIRECTORY")
    heartbeat_file: Annotated[Path | None, _parsed(parse_path)] = None


class _TransitVariables(_Group):
    """The transit engine of a Vault; none of it is needed."""

    address: Annotated[str | None, _parsed(parse_server_url)] = Field(None, alias="ADDR")
    token: Annotated[Secret | None, _parsed(parse_token)] = None
    key: Annotated[str | None, _parsed(parse_name)] = Field(None, alias="TRANSIT_KEY")
    mount: Annotated[str, _parsed(parse_mount)] = Field("", alias="TRANSIT_MOUNT")
    namespace: Annotated[str | None, _parsed(parse_mount)] = None
    authorities: Annotated[Path | None, _parsed(parse_path)] = Field(None, alias="CACERT")


class _ClientVariables(_Group):
    """One provider's OAuth client. Its secret keeps the blanks that quotes in a `.env` have kept."""

    client_id: Annotated[str | None, _parsed(parse_client_id)] = None
    client_secret: Annotated[Secret | None, PlainValidator(parse_client_secret)] = None
    redirect_uri: Annotated[str | None, _parsed(parse_redirect_uri)] = None


def _read_group(group: type[_Group], found: _Found, prefix: str = "") -> dict[str, Any]:
    """Return what is set and right, by field, and note every problem with the rest."""
    try:
        read = group(found, prefix)
    except ValidationError as error:
        wrong = {str(each["loc"][0]): str(each["ctx"]["error"]) for each in error.errors()}
        found.problems.extend(
            f"{(prefix + key).upper()}: {line}" for key, problem in wrong.items() for line in problem.splitlines()
        )
        again = _Found(found.texts)
        read = group(again, prefix, wrong)
    return {name: getattr(read, name) for name in read.model_fields_set}


def _read_provider(name: str, found: _Found) -> Iterable[Provider]:
    texts = {variable: found.text(variable) for variable in override_variables(name)}
    overrides = {variable: text.strip() for variable, text in texts.items() if text is not None}
    turned_off = {v: "" for v, text in found.texts.items() if not text.strip() and means_off(v, name)}
    try:
        return [read_profile(name, turned_off | overrides, profile_directories())]
    except ProfileError as unfit:
        found.problems.extend(unfit.problems)
        return []


def _with_prefix(provider: Provider, clients: Iterable[Registration]) -> Provider:
    prefixes = (find_path_prefix(client) for client in clients if client.provider == provider.name)
    return replace(provider, path_prefix=next(prefixes, ""))


def _read_transit(found: _Found) -> TransitSettings | None:
    """Return the transit engine's settings; None if no address is set."""
    given = _read_group(_TransitVariables, found, "VAULT_")
    if "address" not in given or "token" not in given:
        if given.keys() & {"address", "token", "key"}:
            found.require("VAULT_ADDR", "the URL of a Vault or OpenBao")
            found.require("VAULT_TOKEN", "a token that may encrypt, decrypt and rewrap with VAULT_TRANSIT_KEY")
        return None
    token_file = found.texts.get("VAULT_TOKEN_FILE", "").strip()
    return TransitSettings(**given, token_file=Path(token_file) if token_file else None)


def _read_client(name: str, found: _Found, needs: Collection[Need]) -> Iterable[Registration]:
    """Return a provider's client; without its secret only its registration, if no more is needed."""
    prefix = f"{name.upper()}_"
    given = _read_group(_ClientVariables, found, prefix)
    uri, path = given.get("redirect_uri", ""), callback_path(name)
    if uri and (not uri.endswith(path) or "?" in uri):
        found.problems.append(
            f"{prefix}REDIRECT_URI: expected a URL that ends in {path}: there the web process listens"
        )
    if len(given) == len(_ClientVariables.model_fields):
        return [OAuthClient(provider=name, **given)]
    needs_secret = "clients" in needs or ("registrations" not in needs and "client_secret" in given)
    if given.keys() == {"client_id", "redirect_uri"} and not needs_secret:
        return [Registration(provider=name, **given)]
    if {"clients", "registrations"} & set(needs) or given:
        found.require(f"{prefix}CLIENT_ID", "the id of the OAuth client")
        if "registrations" not in needs or "clients" in needs:
            found.require(f"{prefix}CLIENT_SECRET", "the secret of the OAuth client")
        found.require(f"{prefix}REDIRECT_URI", "where the provider sends users back to: https, or http on localhost")
    return []


def _gather(environ: Mapping[str, str], env_file: Path | None) -> dict[str, str]:
    """All variables, those of the environment before those of the file, those with a value before empty ones."""
    try:
        written = read_env_file(env_file)
    except (OSError, EnvFileError) as trouble:
        raise SettingsError([f"{env_file}: cannot read it: {trouble}"]) from None
    return {**environ, **written, **{name: value for name, value in environ.items() if value.strip()}}


def _read_file(path: Path) -> str:
    """What a secret's file holds, without the blanks around it. Raises OSError, or ValueError if it is unfit."""
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
