"""How a provider's profile is read: TOML found by name, scalars overridden by the environment, faults named."""

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from datetime import timedelta
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from config.durations import parse_duration
from config.profiles.faults import Fault, find_faults
from config.profiles.kinds import describe_error, find_mistyped, find_unknown, given, tables
from models.provider import Provider

_free_tables = ("error_aliases", "webhook", "headers", "authorize_parameters")
"""Tables that no variable overrides."""
_scalars = tuple(
    field.name
    for field in fields(Provider)
    if field.name not in (*given, "api_url_alternatives", *_free_tables, *tables)
)
_lengths = ("mass_refusal_window",)
_off_when_empty = ("revoke_url", "issuer", "refresh_scope", "prompt")


class ProfileError(Exception):
    """A profile that can't be used; `problems` has every reason, each with the variable or the place in the file."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


usual_directory = Path("config/providers")


def profile_directories(own: Path | None = None) -> tuple[Path, ...]:
    """Where profiles are looked for: first in a directory of one's own, or else below the working directory."""
    return own or usual_directory, Path(__file__).parents[1] / "providers"


def override_variables(provider: str) -> dict[str, str]:
    """The environment variables that override a profile's scalars, each with the field it sets."""
    return {f"{provider.upper()}_{field.upper()}": field for field in _scalars}


def means_off(variable: str, provider: str) -> bool:
    """Whether this variable, set to nothing, says that there is none; otherwise it counts as unset."""
    return override_variables(provider).get(variable) in _off_when_empty


def read_profile(provider: str, overrides: Mapping[str, str], directories: Iterable[Path]) -> Provider:
    """The profile of that name, its scalars overridden by variable. Raises `ProfileError` with every problem.

    A link that leads nowhere, or a directory of that name, is a broken profile: the next one is not taken in its place.
    """
    places = [place / f"{provider}.toml" for place in directories]
    path = next((place for place in places if os.path.lexists(place)), None)
    if path is None:
        raise ProfileError([f"PROVIDERS: there is no profile {places[0]}"])
    return read_file(provider, path, overrides)


def read_file(provider: str, path: Path, overrides: Mapping[str, str]) -> Provider:
    """The profile in that file. Raises `ProfileError` with every problem."""
    return build_provider(provider, str(path), _read_toml(path), overrides)


def _read_toml(path: Path) -> Mapping[str, object]:
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except UnicodeDecodeError as trouble:
        raise ProfileError([f"{path}: expected text in UTF-8"]) from trouble
    except RecursionError as trouble:
        raise ProfileError([f"{path}: expected tables and lists that are not nested so deep"]) from trouble
    except OSError as trouble:
        raise ProfileError([f"{path}: cannot be read: {trouble.strerror}"]) from trouble
    except ValueError as trouble:
        raise ProfileError([f"{path}: {trouble}"]) from trouble


def build_provider(provider: str, source: str, written: Mapping[str, object], overrides: Mapping[str, str]) -> Provider:
    """What a profile's file and its overrides say, checked; `source` names the file in problems."""
    variables = {field: name for name, field in override_variables(provider).items() if name in overrides}
    overridden = {field: overrides[name] for field, name in variables.items()}
    problems = [f"{source}: {where}: not a known field" for where in find_unknown(written)]
    mistyped = dict(find_mistyped(written))
    problems += [f"{source}: {where}: {what}" for where, what in mistyped.items()]
    built, faults = _validate(provider, written, overridden)
    problems += [
        f"{variables.get(where, f'{source}: {where}')}: {what}"
        for where, what in faults
        if where in variables or where not in mistyped
    ]
    if problems or built is None:
        raise ProfileError(problems)
    api_url = built.api_url.rstrip("/")
    resources = tuple(replace(each, api_url=each.api_url.rstrip("/")) for each in built.resources)
    alternatives = _find_alternatives(api_url, written, built)
    return replace(built, api_url=api_url, api_url_alternatives=alternatives, resources=resources)


@cache
def _adapter() -> TypeAdapter[Provider]:
    """The reader of a profile's values, which takes far longer to make than to use."""
    return TypeAdapter(Provider)


def _validate(
    provider: str, written: Mapping[str, object], overridden: Mapping[str, str]
) -> tuple[Provider | None, list[Fault]]:
    """The profile, None if the file itself is unusable, and its faults: those of types, and what else is wrong
    with the rest."""
    try:
        values = _read_lengths({**written, **overridden, "name": provider})
        built = _adapter().validate_python(values)
        return built, list(find_faults(built))
    except ValidationError as error:
        found = error.errors(include_input=False)
    faults = [describe_error(each) for each in found]
    wrong = {str(each["loc"][0]) for each in found}
    if not wrong & set(overridden):
        return None, faults
    rest, more = _validate(provider, written, {field: text for field, text in overridden.items() if field not in wrong})
    return rest, [*faults, *(fault for fault in more if fault not in faults)]


def _read_lengths(values: Mapping[str, object]) -> dict[str, object]:
    """Return the values with lengths of time as such; one that can't be read is None, for pydantic to name it."""
    lengths = {field: _read_length(values[field]) for field in _lengths if field in values}
    return {**values, **lengths}


def _read_length(value: object) -> timedelta | None:
    try:
        return parse_duration(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _find_alternatives(api_url: str, written: Mapping[str, object], built: Provider) -> tuple[str, ...]:
    """The other bases of the profile; none if the API in use is not one of them, because a live token that is meant
    for it must not reach another host."""
    known = [url.rstrip("/") for url in (str(written.get("api_url", "")), *built.api_url_alternatives)]
    return tuple(dict.fromkeys(url for url in known if url != api_url)) if api_url in known else ()
