"""What the environment says, as one frozen value, or every problem with it at once."""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Literal

from config.encryption import (
    check_encryption,
)
from config.environment import Found, SettingsError, gather_variables
from config.profiles import (
    ProfileError,
    means_off,
    override_variables,
    profile_directories,
    read_profile,
)
from config.proxies import check_proxies, find_proxies, proxy_variables
from config.setting_texts import Address, Network
from config.variables import ClientVariables, HookVariables, TransitVariables, Variables, read_group
from models.crypto.secrets import Secret
from models.crypto.transit_settings import TransitSettings
from models.crypto.vault import Key, SealingKey
from models.gateway.keys import GatewayKey
from models.hook import HookSecrets
from models.oauth.authorization import Confirmation
from models.oauth.client import OAuthClient, Registration, callback_path, find_path_prefix
from models.origins import is_safe
from models.provider import Provider
from models.proxies import Proxies

Need = Literal["keys", "sealing", "clients", "registrations", "links", "gateway"]


everything: frozenset[Need] = frozenset({"keys", "clients", "links"})


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
    A worker or scheduler shows its metrics at `metrics_address`.
    `spool` is where new tokens wait while the database is away; `heartbeat_file` is the file
    whose age a health check reads. `gateway_keys` are those of the applications that may use the gateway. `hooks` are
    the secrets of each provider's webhook.
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
    operator_address: Address | None = field(default_factory=lambda: Address("127.0.0.1", 8701))
    metrics_address: Address | None = None
    trusted_proxies: tuple[Network, ...] = ()
    spool: Path = Path("var/spool")
    heartbeat_file: Path | None = None
    gateway_keys: tuple[GatewayKey, ...] = ()
    hooks: Mapping[str, HookSecrets] = field(default_factory=dict)
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
    registration; the secret of connect links; the gateway's keys.
    """
    found = Found(gather_variables(os.environ if environ is None else environ, env_file))
    proxy_texts = {name: found.text(name) or "" for name in proxy_variables}
    fixed = read_group(Variables, found)
    names = fixed.pop("providers", ("breezedoc",))
    directories = profile_directories(fixed.pop("providers_directory", None))
    transit = _read_transit(found)
    providers = tuple(provider for name in names for provider in _read_provider(name, found, directories))
    registrations = tuple(client for name in names for client in _read_client(name, found, needs))
    if found.is_empty("OPERATOR_ADDRESS"):
        fixed["operator_address"] = None
    settings = Settings(
        **fixed | check_encryption(fixed, found.problems),
        transit=transit,
        providers=tuple(_with_prefix(provider, registrations) for provider in providers),
        registrations=registrations,
        clients=tuple(client for client in registrations if isinstance(client, OAuthClient)),
        hooks={
            provider.name: secrets for provider in providers if (secrets := _read_hook(provider, found)) is not None
        },
        proxies=find_proxies(proxy_texts),
    )
    found.problems.extend(check_proxies(proxy_texts))
    _require_needed(needs, settings, found)
    found.problems.extend(_find_shared_secrets(settings))
    found.problems.extend(_find_clear_text(settings))
    found.problems.extend(_find_unknown_providers(settings))
    found.problems.extend(_find_same_views(settings))
    if found.problems:
        raise SettingsError(found.problems)
    return settings


def _require_needed(needs: Collection[Need], settings: Settings, found: Found) -> None:
    """Note what must be set and is not, and streams that share a name."""
    if "keys" in needs:
        found.require("ENCRYPTION_KEYS", "id:base64(32 bytes), comma-separated; `breezesync keys new` makes one")
    if "sealing" in needs and settings.sealing_key is None:
        found.require("SEALING_KEY", "id:base64 as `breezesync keys sealing-key` prints it, or ENCRYPTION_KEYS")
    if "links" in needs:
        found.require("CONNECT_SECRET", "32 bytes or more; `openssl rand -hex 32` makes one")
    if "gateway" in needs:
        found.require("GATEWAY_KEYS", "NAME:SHA256, comma-separated; `breezesync gateway-key NAME` makes one")
    streams = (settings.events_stream, settings.records_stream, settings.commands_stream)
    if len(set(streams)) < len(streams):
        found.problems.append("EVENTS_STREAM, RECORDS_STREAM, COMMANDS_STREAM: expected three different names")


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


def _find_unknown_providers(settings: Settings) -> Iterable[str]:
    """A key for a provider that is not in use is a typing error, and would see nothing."""
    known = {provider.name for provider in settings.providers}
    named = {name for key in settings.gateway_keys for name in key.providers or ()}
    if known and named - known:
        unknown, expected = (", ".join(sorted(each)) for each in (named - known, known))
        yield f"GATEWAY_KEYS: {unknown} is not in PROVIDERS: expected {expected}"


def _find_same_views(settings: Settings) -> Iterable[str]:
    """Of `a` with the view `b_c` and `a_b` with the view `c` one would show the other's records."""
    names = Counter(provider.view_name(view) for provider in settings.providers for view in provider.views)
    for name in sorted(name for name, times in names.items() if times > 1):
        yield f"PROVIDERS: the views of two profiles are both called {name}: expected another name of one of them"


def find_overrides(name: str, found: Found) -> dict[str, str]:
    """The variables that override values of a profile, with what they say."""
    texts = {variable: found.text(variable) for variable in override_variables(name)}
    turned_off = {v: "" for v, text in found.texts.items() if not text.strip() and means_off(v, name)}
    return turned_off | {variable: text.strip() for variable, text in texts.items() if text is not None}


def _read_provider(name: str, found: Found, directories: Collection[Path]) -> Iterable[Provider]:
    try:
        return [read_profile(name, find_overrides(name, found), directories)]
    except ProfileError as unfit:
        found.problems.extend(unfit.problems)
        return []


def _with_prefix(provider: Provider, clients: Iterable[Registration]) -> Provider:
    prefixes = (find_path_prefix(client) for client in clients if client.provider == provider.name)
    return replace(provider, path_prefix=next(prefixes, ""))


def _read_transit(found: Found) -> TransitSettings | None:
    """Return the transit engine's settings; None if no address is set."""
    given = read_group(TransitVariables, found, "VAULT_")
    if "address" not in given or "token" not in given:
        if given.keys() & {"address", "token", "key"}:
            found.require("VAULT_ADDR", "the URL of a Vault or OpenBao")
            found.require("VAULT_TOKEN", "a token that may encrypt, decrypt and rewrap with VAULT_TRANSIT_KEY")
        return None
    token_file = found.texts.get("VAULT_TOKEN_FILE", "").strip()
    return TransitSettings(**given, token_file=Path(token_file) if token_file else None)


def _read_hook(provider: Provider, found: Found) -> HookSecrets | None:
    """Return what opens a provider's webhook; None if nothing is set."""
    prefix = f"{provider.name.upper()}_WEBHOOK_"
    given = read_group(HookVariables, found, prefix)
    if not given:
        return None
    if provider.webhook is None:
        found.problems.append(f"{prefix}PATH: expected a table [webhook] in the profile {provider.name}")
        return None
    if "path" not in given:
        found.require(f"{prefix}PATH", "the last part of the webhook's URL; `openssl rand -hex 24` makes one")
        return None
    if provider.webhook.signature_header and "secret" not in given:
        found.require(f"{prefix}SECRET", "the secret that the provider signs webhooks with")
    return HookSecrets(given["path"], given.get("secret"))


def _read_client(name: str, found: Found, needs: Collection[Need]) -> Iterable[Registration]:
    """Return a provider's client; without its secret only its registration, if no more is needed."""
    prefix = f"{name.upper()}_"
    given = read_group(ClientVariables, found, prefix)
    uri, path = given.get("redirect_uri", ""), callback_path(name)
    if uri and (not uri.endswith(path) or "?" in uri):
        found.problems.append(
            f"{prefix}REDIRECT_URI: expected a URL that ends in {path}: there the web process listens"
        )
    if len(given) == len(ClientVariables.model_fields):
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
