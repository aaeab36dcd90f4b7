"""How a provider's profile is read: TOML found by name, scalars overridden by the environment, faults named."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from config.durations import parse_duration
from config.profiles.faults import find_faults
from models.hook import Hook
from models.provider import Column, Provider, Resource, View

_given = ("name", "path_prefix")
"""Fields that no profile sets."""
_free_tables = ("error_aliases", "webhook", "headers", "authorize_parameters")
"""Tables that no variable overrides."""
_tables = {"resources": Resource, "views": View, "columns": Column}
_scalars = tuple(
    field.name
    for field in fields(Provider)
    if field.name not in (*_given, "api_url_alternatives", *_free_tables, *_tables)
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
    """The profile of that name, its scalars overridden by variable. Raises `ProfileError` with every problem."""
    places = [place / f"{provider}.toml" for place in directories]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise ProfileError([f"PROVIDERS: there is no profile {places[0]}"])
    return read_file(provider, path, overrides)


def read_file(provider: str, path: Path, overrides: Mapping[str, str]) -> Provider:
    """The profile in that file. Raises `ProfileError` with every problem."""
    try:
        written = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as trouble:
        raise ProfileError([f"{path}: {trouble}"]) from trouble
    return build_provider(provider, str(path), written, overrides)


def build_provider(provider: str, source: str, written: Mapping[str, object], overrides: Mapping[str, str]) -> Provider:
    """What a profile's file and its overrides say, checked; `source` names the file in problems."""
    variables = {field: name for name, field in override_variables(provider).items() if name in overrides}
    overridden = {field: overrides[name] for field, name in variables.items()}
    problems = [f"{source}: {where}: not a known field" for where in _find_unknown(written, Provider, "")]
    built, faults = _validate(provider, written, overridden)
    problems += [f"{variables.get(where, f'{source}: {where}')}: {what}" for where, what in faults]
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
) -> tuple[Provider | None, list[tuple[str, str]]]:
    """The profile, None if the file itself is unusable, and its faults: those of types, and what else is wrong
    with the rest."""
    try:
        values = _read_lengths({**written, **overridden, "name": provider})
        built = _adapter().validate_python(values)
        return built, list(find_faults(built))
    except ValidationError as error:
        found = error.errors(include_input=False)
    faults = [(_locate(each["loc"]), each["msg"]) for each in found]
    wrong = {str(each["loc"][0]) for each in found}
    if not wrong & set(overridden):
        return None, faults
    rest, more = _validate(provider, written, {field: text for field, text in overridden.items() if field not in wrong})
    return rest, [*faults, *(fault for fault in more if fault not in faults)]


def _read_lengths(values: Mapping[str, object]) -> dict[str, object]:
    """Return the values with lengths of time as such; one that can't be read stays, for pydantic to name it."""
    read = dict(values)
    for field in _lengths:
        text = read.get(field)
        with suppress(ValueError):
            read |= {field: parse_duration(text)} if isinstance(text, str) else {}
    return read


def _find_alternatives(api_url: str, written: Mapping[str, object], built: Provider) -> tuple[str, ...]:
    """The other bases of the profile; none if the API in use is not one of them, because a live token that is meant
    for it must not reach another host."""
    known = [url.rstrip("/") for url in (str(written.get("api_url", "")), *built.api_url_alternatives)]
    return tuple(dict.fromkeys(url for url in known if url != api_url)) if api_url in known else ()


def _find_unknown(table: object, kind: type[Provider | Resource | View | Column | Hook], where: str) -> Iterator[str]:
    known = {field.name for field in fields(kind)} - (set(_given) if kind is Provider else set())
    for key, inner in table.items() if isinstance(table, Mapping) else ():
        if key not in known:
            yield f"{where}{key}"
        if key == "webhook":
            yield from _find_unknown(inner, Hook, "webhook.")
        for position, element in enumerate(inner if key in _tables and isinstance(inner, list) else ()):
            yield from _find_unknown(element, _tables[key], f"{where}{key}[{position}].")


def _locate(place: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")
