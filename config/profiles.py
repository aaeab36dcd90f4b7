"""How a provider's profile is read: TOML found by name, scalars overridden by the environment, faults named."""

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from datetime import timedelta
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from config.durations import parse_duration
from models.hook import Hook, find_hook_faults
from models.oauth.authorization import denial
from models.oauth.connect_link import is_safe, origin_of
from models.oauth.token_response import protocol_errors
from models.provider import Column, Provider, Resource, View

# A view is called provider_view: together they stay below PostgreSQL's 63 characters.
name_pattern = r"[a-z][a-z0-9_]{0,29}"
_part = r"[A-Za-z0-9_-]+"
_field = r"[A-Za-z0-9_]+"
_dotted = rf"{_field}(\.{_field})*"
_volatile = rf"{_part}(\[\])*(\.{_part}(\[\])*)*(\.\*\?)?"
_path = r"(/([A-Za-z0-9._~-]+|\{team\}))+"
_scope = r"[!#-\[\]-~]+( [!#-\[\]-~]+)*"

clear_text = "expected https: tokens would travel in clear (allow_http = true allows it in a network of your own)"
_given = ("name", "path_prefix")
"""Fields that no profile sets."""
_tables = {"resources": Resource, "views": View, "columns": Column}
_scalars = tuple(
    field.name
    for field in fields(Provider)
    if field.name not in (*_given, "api_url_alternatives", "error_aliases", "webhook", *_tables)
)
_urls = ("authorize_url", "token_url", "api_url", "revoke_url", "issuer")
_scopes = ("scope", "refresh_scope")
_rates = (
    "token_requests_per_minute",
    "api_requests_per_minute",
    "full_reading_minutes",
    "longest_list",
    "code_seconds",
)
_lengths = ("mass_refusal_window",)
_counts = ("grace_seconds", "peek_above", "vanishing_records", "mass_refusal_count")
_columns_of_every_view = {
    "connection_id",
    "user_id",
    "account_id",
    "external_id",
    "first_seen_at",
    "changed_at",
    "data",
}
_off_when_empty = ("revoke_url", "issuer", "refresh_scope", "prompt")


class ProfileError(Exception):
    """A profile that can't be used; `problems` has every reason, each with the variable or the place in the file."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def profile_directories() -> tuple[Path, ...]:
    """Where profiles are looked for, the working directory first."""
    return Path("config/providers"), Path(__file__).parent / "providers"


def override_variables(provider: str) -> dict[str, str]:
    """The environment variables that override a profile's scalars, each with the field it sets."""
    return {f"{provider.upper()}_{field.upper()}": field for field in _scalars}


def means_off(variable: str, provider: str) -> bool:
    """Whether this variable, set to nothing, says that there is none; otherwise it counts as unset."""
    return override_variables(provider).get(variable) in _off_when_empty


def read_profile(provider: str, overrides: Mapping[str, str], directories: Iterable[Path]) -> Provider:
    """The profile of that name, its scalars overridden by variable. Raises `ProfileError` with every problem."""
    path = next((found for place in directories if (found := place / f"{provider}.toml").is_file()), None)
    if path is None:
        raise ProfileError([f"PROVIDERS: there is no profile config/providers/{provider}.toml"])
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
    return replace(built, api_url=api_url, api_url_alternatives=_find_alternatives(api_url, written, built))


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


def find_faults(provider: Provider) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a profile beyond its types: the place, and what is expected there."""
    yield from _find_endpoint_faults(provider)
    yield from _find_repeated("resources", (resource.name for resource in provider.resources))
    for position, resource in enumerate(provider.resources):
        yield from ((f"resources[{position}].{where}", what) for where, what in _find_resource_faults(resource))
    if provider.webhook is not None:
        yield from ((f"webhook.{where}", what) for where, what in find_hook_faults(provider.webhook))
    yield from _find_repeated("views", (view.name for view in provider.views))
    for position, view in enumerate(provider.views):
        yield from ((f"views[{position}].{where}", what) for where, what in _find_view_faults(view, provider))


def _find_endpoint_faults(provider: Provider) -> Iterator[tuple[str, str]]:
    for field in _urls:
        url = getattr(provider, field)
        if (url or field not in _off_when_empty) and (origin_of(url) is None or "#" in url):
            yield field, "expected an http(s) URL without user information and fragment"
        elif url and not (provider.allow_http or is_safe(origin_of(url) or "")):
            yield field, clear_text
    for url in provider.api_url_alternatives:
        if origin_of(url) is None or "#" in url or "?" in url:
            yield "api_url_alternatives", "expected http(s) URLs without user information, query and fragment"
        elif not (provider.allow_http or is_safe(origin_of(url) or "")):
            yield "api_url_alternatives", clear_text
    if "?" in provider.api_url:
        yield "api_url", "expected a URL without a query"
    for field in _scopes:
        if getattr(provider, field) and not re.fullmatch(_scope, getattr(provider, field)):
            yield field, "expected scopes with one space between them"
    if provider.prompt and not re.fullmatch(_scope, provider.prompt):
        yield "prompt", "expected words with one space between them, like consent"
    for field in _rates:
        if getattr(provider, field) < 1:
            yield field, "expected at least 1"
    for field in _counts:
        if getattr(provider, field) < 0:
            yield field, "expected no negative number"
    if provider.mass_refusal_window <= timedelta():
        yield "mass_refusal_window", "expected a length of time, more than none"
    for field in ("vanishing_share", "mass_refusal_share"):
        if not 0 <= getattr(provider, field) <= 1:
            yield field, "expected a share from 0 to 1"
    if not 0 < provider.fastest_cadence <= 1 <= provider.slowest_cadence <= 1000:
        yield "fastest_cadence", "expected fastest_cadence above 0 and up to 1, slowest_cadence from 1 to 1000"
    if not re.fullmatch(_path, provider.account_path) or "{team}" in provider.account_path:
        yield "account_path", "expected a path like /me"
    for theirs, ours in provider.error_aliases.items():
        if ours not in protocol_errors | {denial}:
            yield f"error_aliases.{theirs}", f"expected one of {', '.join(sorted(protocol_errors | {denial}))}"
    for field in ("account_id", "account_email"):
        if not getattr(provider, field):
            yield field, "expected a field's name"


def _find_resource_faults(resource: Resource) -> Iterator[tuple[str, str]]:
    if not re.fullmatch(name_pattern, resource.name):
        yield "name", "expected up to 30 small letters, digits and underscores"
    if not re.fullmatch(_path, resource.path):
        yield "path", "expected a path like /documents"
    if resource.per_team is not ("{team}" in resource.path):
        yield "per_team", "expected true with {team} in the path, and only then"
    if not resource.id:
        yield "id", "expected a field's name"
    for field in ("query", "peek"):
        query = getattr(resource, field)
        if not re.fullmatch(r"[!-~]*", query) or set(query) & set("#?"):
            yield field, "expected an encoded query without its question mark"
    if resource.peek and resource.paging == "none":
        yield "peek", "expected none if there are no pages"
    for entry in resource.volatile:
        if not re.fullmatch(_volatile, entry):
            yield "volatile", f"expected paths like files[].url or files[].*?, not {entry!r}"


def _find_view_faults(view: View, provider: Provider) -> Iterator[tuple[str, str]]:
    if not re.fullmatch(name_pattern, view.name):
        yield "name", "expected up to 30 small letters, digits and underscores"
    if provider.resource(view.resource) is None:
        yield "resource", f"expected the name of a resource, not {view.resource!r}"
    if not view.columns:
        yield "columns", "expected at least one"
    yield from _find_repeated("columns", (column.name for column in view.columns))
    for position, column in enumerate(view.columns):
        where = f"columns[{position}]"
        if not re.fullmatch(name_pattern, column.name):
            yield f"{where}.name", "expected up to 30 small letters, digits and underscores"
        if column.name in _columns_of_every_view:
            yield f"{where}.name", f"every view has its own {column.name!r}"
        if not re.fullmatch(_dotted, column.path):
            yield f"{where}.path", "expected a dotted path"
        if column.where is not None and (column.type != "count" or not re.fullmatch(_field, column.where)):
            yield f"{where}.where", "expected a field's name, with the type count only"


def _find_repeated(where: str, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    yield from ((where, f"{name!r} appears {times} times") for name, times in Counter(names).items() if times > 1)


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
