"""What is wrong with a profile beyond its types: each fault with its place, and with what is expected there."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta

from config.profiles.fields import (
    Rule,
    column_rules,
    columns_of_every_view,
    header_name,
    header_value,
    hook_rules,
    own_headers,
    own_parameters,
    provider_rules,
    resource_rules,
    view_rules,
)
from models.hook import Hook, find_hook_faults
from models.oauth.authorization import denial
from models.oauth.token_response import protocol_errors
from models.origins import is_safe, origin_of
from models.provider import Column, Provider, Resource, View

Fault = tuple[str, str]

clear_text = "expected https: tokens would travel in clear (allow_http = true allows it in a network of your own)"
known_errors = frozenset(protocol_errors | {denial})


def find_faults(provider: Provider) -> Iterator[Fault]:
    """Yield what is wrong with a profile beyond its types: the place, and what is expected there."""
    yield from _find_by_rules(provider, provider_rules, provider.allow_http)
    yield from _find_endpoint_faults(provider)
    yield from _find_request_faults(provider)
    yield from _find_repeated("resources", (resource.name for resource in provider.resources))
    for position, resource in enumerate(provider.resources):
        faults = [*_find_by_rules(resource, resource_rules, provider.allow_http), *_find_resource_faults(resource)]
        faults += _find_parent_faults(resource, provider.resources[:position], provider)
        if resource.path == provider.account_path and (resource.paging != "none" or resource.items):
            faults.append(("paging", "expected none, and no items: one answer names the account"))
        yield from _within(f"resources[{position}]", faults)
    if provider.webhook is not None:
        found = [*_find_by_rules(provider.webhook, hook_rules), *find_hook_faults(provider.webhook)]
        yield from _within("webhook", found)
    yield from _find_repeated("views", (view.name for view in provider.views))
    for position, view in enumerate(provider.views):
        yield from _within(f"views[{position}]", _find_view_faults(view, provider))


def _within(place: str, faults: Iterable[Fault]) -> Iterator[Fault]:
    yield from ((f"{place}.{where}", what) for where, what in faults)


def _find_by_rules(
    table: Provider | Resource | View | Column | Hook, rules: Mapping[str, Rule], allow_http: bool = False
) -> Iterator[Fault]:
    for field, rule in rules.items():
        value = getattr(table, field)
        if rule.url:
            yield from _within_field(field, _find_url_fault(value, rule.url, allow_http))
        elif not _fits(value, rule):
            yield field, rule.expected


def _within_field(field: str, what: str | None) -> Iterator[Fault]:
    if what is not None:
        yield field, what


def _fits(value: object, rule: Rule) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        low = rule.least is None or value >= rule.least
        return low and (rule.most is None or value <= rule.most) and (rule.above is None or value > rule.above)
    texts = value if isinstance(value, tuple) else (value,)
    return all(re.fullmatch(rule.pattern, text) for text in texts if rule.pattern and isinstance(text, str))


def _find_url_fault(url: str, kind: str, allow_http: bool) -> str | None:
    """Return what is wrong with a URL; `kind` is that of its rule."""
    if not url and "optional" in kind:
        return None
    origin = origin_of(url)
    if origin is None or "#" in url:
        return "expected an http(s) URL without user information and fragment"
    if "base" in kind and "?" in url:
        return "expected a URL without a query"
    return None if allow_http or is_safe(origin) else clear_text


def _find_endpoint_faults(provider: Provider) -> Iterator[Fault]:
    for url in provider.api_url_alternatives:
        if origin_of(url) is None or "#" in url or "?" in url:
            yield "api_url_alternatives", "expected http(s) URLs without user information, query and fragment"
        elif not (provider.allow_http or is_safe(origin_of(url) or "")):
            yield "api_url_alternatives", clear_text
    if provider.mass_refusal_window <= timedelta():
        yield "mass_refusal_window", "expected a length of time, more than none"
    for theirs, ours in provider.error_aliases.items():
        if ours not in known_errors:
            yield f"error_aliases.{theirs}", f"expected one of {', '.join(sorted(known_errors))}"


def _find_request_faults(provider: Provider) -> Iterator[Fault]:
    for name, value in provider.headers.items():
        if not re.fullmatch(header_name, name) or name.lower() in own_headers:
            yield f"headers.{name}", f"expected a header that is not one of {', '.join(sorted(own_headers))}"
        elif not re.fullmatch(header_value, value):
            yield f"headers.{name}", "expected visible ASCII characters, with blanks only between them"
    yield from _find_repeated("headers", (name.lower() for name in provider.headers))
    for name in provider.authorize_parameters:
        if not name or name in own_parameters:
            yield f"authorize_parameters.{name}", "expected no parameter of the protocol: fields of their own set them"


def _find_resource_faults(resource: Resource) -> Iterator[Fault]:
    if resource.per_team is not ("{team}" in resource.path):
        yield "per_team", "expected true with {team} in the path, and only then"
    if resource.peek and (resource.paging == "none" or not resource.has_total):
        yield "peek", "expected none if there are no pages, or no total by which a look at the newest can be enough"
    if bool(resource.since_parameter) is not bool(resource.since_field):
        yield "since_parameter", "expected with since_field, and only then"
    if resource.since_parameter and resource.peek:
        yield "since_parameter", "expected none with peek: a list is read in one way between full readings"
    if resource.since_parameter and resource.paging == "none" and not resource.items:
        yield "since_parameter", "expected none: one record is no list"
    if resource.paging == "cursor" and not resource.cursor:
        yield "cursor", "expected the dotted path of the next page's cursor"
    if resource.is_laravel and (resource.items or resource.total or resource.more or resource.cursor):
        yield "paging", "expected another one: with Laravel's, items, total, more and cursor have their places"
    if resource.cursor and resource.paging not in ("cursor", "link"):
        yield "cursor", "expected none: only paging by cursor or link has one"


def _find_parent_faults(resource: Resource, earlier: Sequence[Resource], provider: Provider) -> Iterator[Fault]:
    if not resource.parent:
        yield from _find_faults_without_parent(resource)
        return
    if resource.path == provider.account_path:
        yield "parent", "expected none: one answer names the account"
    elif "{parent}" not in resource.path:
        yield "path", "expected one with {parent} in it, because it has a parent"
    for field in ("per_team", "peek", "since_parameter"):
        if getattr(resource, field):
            yield field, "expected none with a parent: the lists of all parents are read whole"
    found = next((each for each in earlier if each.name == resource.parent), None)
    if found is None and provider.resource(resource.parent) is not None:
        yield "parent", "expected a resource that stands above this one in the profile"
    elif found is None:
        yield "parent", f"expected the name of a resource, not {resource.parent!r}"
    elif found.parent:
        yield "parent", f"expected a resource without a parent of its own, unlike {resource.parent!r}"


def _find_faults_without_parent(resource: Resource) -> Iterator[Fault]:
    if "{parent}" in resource.path:
        yield "path", "expected no {parent} in it without a parent"
    if resource.parent_key:
        yield "parent_key", "expected none without a parent"
    if resource.id_scope != "account":
        yield "id_scope", "expected account without a parent"


def _find_view_faults(view: View, provider: Provider) -> Iterator[Fault]:
    yield from _find_by_rules(view, view_rules)
    if provider.resource(view.resource) is None:
        yield "resource", f"expected the name of a resource, not {view.resource!r}"
    if not view.columns:
        yield "columns", "expected at least one"
    yield from _find_repeated("columns", (column.name for column in view.columns))
    for position, column in enumerate(view.columns):
        where = f"columns[{position}]"
        yield from _within(where, _find_by_rules(column, column_rules))
        if column.name in columns_of_every_view:
            yield f"{where}.name", f"every view has its own {column.name!r}"
        if column.where is not None and column.type != "count":
            yield f"{where}.where", column_rules["where"].expected


def _find_repeated(where: str, names: Iterable[str]) -> Iterator[Fault]:
    yield from ((where, f"{name!r} appears {times} times") for name, times in Counter(names).items() if times > 1)
