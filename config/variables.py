"""The variables by name, in groups that are read together, with every problem in a group."""

from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PlainValidator, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from config.durations import parse_duration
from config.encryption import (
    parse_encryption_keys,
    parse_key_ids,
    parse_mount,
    parse_name,
    parse_public_key,
    parse_server_url,
)
from config.environment import Found
from config.redis_url import parse_redis_url
from config.setting_texts import (
    Address,
    Network,
    parse_address,
    parse_app_name,
    parse_client_id,
    parse_client_secret,
    parse_confirmation,
    parse_connect_secrets,
    parse_count,
    parse_database_url,
    parse_directory,
    parse_hook_path,
    parse_hook_secret,
    parse_networks,
    parse_origins,
    parse_own_token,
    parse_path,
    parse_provider_names,
    parse_redirect_uri,
    parse_stream,
    parse_token,
    parsed,
)
from models.crypto.secrets import Secret
from models.crypto.vault import Key, SealingKey
from models.gateway.keys import GatewayKey, parse_gateway_keys
from models.oauth.authorization import Confirmation


class _FoundSource(PydanticBaseSettingsSource):
    """What was found for the fields of one group, by `NAME` or `NAME_FILE`."""

    def __init__(self, settings_cls: type[BaseSettings], found: Found, prefix: str, without: Collection[str]) -> None:
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

    def __init__(self, found: Found, prefix: str, without: Collection[str] = ()) -> None:
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


class Variables(_Group):
    """The variables whose names are fixed; each field is the one of `Settings` that it sets."""

    database_url: Annotated[Secret | None, parsed(parse_database_url)] = None
    redis_url: Annotated[Secret | None, parsed(parse_redis_url)] = None
    encryption_keys: Annotated[tuple[Key, ...], parsed(parse_encryption_keys)] = ()
    sealing_key: Annotated[SealingKey | None, parsed(parse_public_key)] = None
    without_keys: Annotated[frozenset[str], parsed(parse_key_ids)] = frozenset()
    connect_secrets: Annotated[tuple[Secret, ...], parsed(parse_connect_secrets)] = Field((), alias="CONNECT_SECRET")
    return_origins: Annotated[frozenset[str], parsed(parse_origins)] = frozenset()
    confirmation: Annotated[Confirmation, parsed(parse_confirmation)] = Field(
        Confirmation.page, alias="CONNECT_CONFIRMATION"
    )
    app_name: Annotated[str, parsed(parse_app_name)] = ""
    providers: Annotated[tuple[str, ...], parsed(parse_provider_names)] = ()
    events_stream: Annotated[str, parsed(parse_stream)] = ""
    records_stream: Annotated[str, parsed(parse_stream)] = ""
    commands_stream: Annotated[str, parsed(parse_stream)] = ""
    events_maxlen: Annotated[int, parsed(parse_count)] = 0
    records_maxlen: Annotated[int, parsed(parse_count)] = 0
    sync_interval: Annotated[timedelta | None, parsed(parse_duration)] = None
    sweep_interval: Annotated[timedelta | None, parsed(parse_duration)] = None
    operator_token: Annotated[Secret | None, parsed(parse_own_token)] = None
    operator_address: Annotated[Address | None, parsed(parse_address)] = None
    metrics_address: Annotated[Address | None, parsed(parse_address)] = None
    trusted_proxies: Annotated[tuple[Network, ...], parsed(parse_networks)] = ()
    providers_directory: Annotated[Path | None, parsed(parse_directory)] = None
    spool: Annotated[Path | None, parsed(parse_path)] = Field(None, alias="SPOOL_DIRECTORY")
    heartbeat_file: Annotated[Path | None, parsed(parse_path)] = None
    gateway_keys: Annotated[tuple[GatewayKey, ...], parsed(parse_gateway_keys)] = ()


class TransitVariables(_Group):
    """The transit engine of a Vault; none of it is needed."""

    address: Annotated[str | None, parsed(parse_server_url)] = Field(None, alias="ADDR")
    token: Annotated[Secret | None, parsed(parse_token)] = None
    key: Annotated[str | None, parsed(parse_name)] = Field(None, alias="TRANSIT_KEY")
    mount: Annotated[str, parsed(parse_mount)] = Field("", alias="TRANSIT_MOUNT")
    namespace: Annotated[str | None, parsed(parse_mount)] = None
    authorities: Annotated[Path | None, parsed(parse_path)] = Field(None, alias="CACERT")


class ClientVariables(_Group):
    """One provider's OAuth client. Its secret keeps the blanks that quotes in a `.env` have kept."""

    client_id: Annotated[str | None, parsed(parse_client_id)] = None
    client_secret: Annotated[Secret | None, PlainValidator(parse_client_secret)] = None
    redirect_uri: Annotated[str | None, parsed(parse_redirect_uri)] = None


class HookVariables(_Group):
    """What opens one provider's webhook; none of it is needed."""

    secret: Annotated[Secret | None, parsed(parse_hook_secret)] = None
    path: Annotated[Secret | None, parsed(parse_hook_path)] = None


def read_group(group: type[_Group], found: Found, prefix: str = "") -> dict[str, Any]:
    """Return what is set and right, by field, and note every problem with the rest."""
    try:
        read = group(found, prefix)
    except ValidationError as error:
        wrong = {str(each["loc"][0]): str(each["ctx"]["error"]) for each in error.errors()}
        found.problems.extend(
            f"{(prefix + key).upper()}: {line}" for key, problem in wrong.items() for line in problem.splitlines()
        )
        again = Found(found.texts)
        read = group(again, prefix, wrong)
    return {name: getattr(read, name) for name in read.model_fields_set}
