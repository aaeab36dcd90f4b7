"""A provider profile: its endpoints, its dialect of OAuth, what can be read from it and how that is shown."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from models.crypto.secrets import Secret
from models.hook import Hook
from models.paging.page_format import PageFormat

TokenBody = Literal["json", "form"]
ClientAuth = Literal["body", "basic"]
RefreshReuse = Literal["harmless", "family_revoked", "grace"]
IdScope = Literal["account", "parent"]
ColumnType = Literal["text", "integer", "number", "boolean", "time", "date", "count"]

usual_error_aliases: Mapping[str, str] = {
    "bad_refresh_token": "invalid_grant",
    "invalid_refresh_token": "invalid_grant",
    "bad_verification_code": "invalid_grant",
    "invalid_code": "invalid_grant",
    "code_already_used": "invalid_grant",
    "bad_auth_code": "invalid_grant",
    "redirect_uri_mismatch": "invalid_grant",
    "incorrect_client_credentials": "invalid_client",
    "invalid_client_credentials": "invalid_client",
    "invalid_client_id": "invalid_client",
    "invalid_client_secret": "invalid_client",
    "bad_client_secret": "invalid_client",
    "deleted_client": "invalid_client",
    "ratelimited": "slow_down",
    "rate_limit_exceeded": "slow_down",
}
"""What well-known servers say instead of the names of RFC 6749 §5.2, for a profile without aliases of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource(PageFormat):
    """One kind of record, where it is read, and how its list comes in pages.

    `path` is appended to the API's URL, or to `api_url` if the resource has one of its own; with `per_team` it holds
    `{team}` and is read once per team id. `query`, already encoded, goes with every page; a page is given up after
    `timeout_seconds`. An account's requests for it have a limit of their own besides the account's, unless
    `requests_per_minute` is 0. `id` is the dotted path of what names a record. `volatile` names what no change is
    read from, as dotted paths in which `name[]` goes into every element of a list; a last part `*?` means every URL
    below, from its question mark on (see `unsign`). `peek` is the query whose first page shows what is newest; with it,
    a long list is not read whole each time. Nor is it with `since_parameter`: that has the list filtered to what
    changed since a value of the field at the dotted path `since_field`, less `since_overlap` (see
    `models/sync/since.py`). With a `parent`, another resource, `path` holds `{parent}` and is read once for each of its
    records, `most_parents` at most: what is at the dotted path `parent_key` of a record goes into the path, by default
    its id. With the `id_scope` `parent`, an id is unique below its parent only (see `models/sync/parents.py`).
    """

    name: str
    path: str
    api_url: str = ""
    id: str = "id"
    volatile: tuple[str, ...] = ()
    query: str = ""
    peek: str = ""
    since_parameter: str = ""
    since_field: str = ""
    since_overlap: int = 120
    per_team: bool = False
    parent: str = ""
    parent_key: str = ""
    most_parents: int = 100
    id_scope: IdScope = "account"
    timeout_seconds: int = 30
    requests_per_minute: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A field of a record as a column of a view.

    `path` is dotted. A `time` is an ISO 8601 instant and a `date` a day, both text in the record. A `count` is the
    number of elements of the list at `path`; with `where`, of those whose field of that name is not null.
    """

    name: str
    path: str
    type: ColumnType = "text"
    where: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The live records of one resource as a table that an application can query."""

    name: str
    resource: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Everything that is particular to one provider.

    `title` is what people call it. `prompt` goes with every redirect to it, for example `consent`, to have it ask each
    time; an empty one is not sent. `authorize_parameters` go there as well, and can't replace those of the protocol.
    Each API request has the access token in its `Authorization` header, behind the word `auth_scheme`, and `headers`.
    `api_url` has no trailing slash. An empty `revoke_url` or `issuer` means that there
    is none, an empty `refresh_scope` that none is sent. A code is presented within `code_seconds` of its arrival, or
    not at all. `refresh_reuse` says what a refresh token presented again does:
    nothing, the end of its family, or nothing within `grace_seconds` and the end of its family after. If
    `rotation_ends_access` is false an access token outlives the rotation of its pair, and says nothing of it.
    `allow_http` lets its endpoints be http elsewhere than on this machine, which is for a network of one's own.
    `api_url_alternatives` are other places where the same API is said to be: they are asked only on an operator's word.
    A provider that has an `issuer` names it in every redirect (RFC 9207).
    `account_path` says which answer names the account, `account_id` and `account_email` are dotted paths in it.
    `webhook` says how its webhooks are signed, if it sends any.
    `error_aliases` maps its own names for the errors of its token endpoint, and of its redirects, to those of RFC 6749
    §5.2 and §4.1.2.1. `path_prefix` is no part of a profile: it comes from the redirect URI, and is what a proxy puts
    before the paths of our web process.

    When more than `mass_refusal_count` connections of a client, and more than `mass_refusal_share` of its active ones,
    are refused within `mass_refusal_window`, no one is blamed, and the rest is held.

    How it is read: with `null_is_absent` a field that is null and one that is missing are the same. A list is peeked
    at, or read incrementally, if it holds more than `peek_above` records, read whole at least every
    `full_reading_minutes` unless that takes too long, and never beyond `longest_list` pages. Records that vanish at
    once, all of their resource or more than `vanishing_records` and more than that share of it, wait for a second run.
    `fastest_cadence` and `slowest_cadence` bound the time between two syncs of the lists, as multiples of the interval.
    """

    name: str
    authorize_url: str
    token_url: str
    api_url: str
    title: str = ""
    path_prefix: str = ""
    revoke_url: str = ""
    issuer: str = ""
    scope: str = ""
    prompt: str = ""
    refresh_scope: str = ""
    token_body: TokenBody = "form"  # noqa: S105 - a format
    client_auth: ClientAuth = "body"
    auth_scheme: str = "Bearer"
    pkce: bool = True
    code_seconds: int = 600
    refresh_reuse: RefreshReuse = "family_revoked"
    grace_seconds: int = 30
    rotation_ends_access: bool = True
    token_requests_per_minute: int = 60
    api_requests_per_minute: int = 60
    account_path: str = "/me"
    account_id: str = "id"
    account_email: str = "email"
    allow_http: bool = False
    api_url_alternatives: tuple[str, ...] = ()
    null_is_absent: bool = False
    peek_above: int = 100
    full_reading_minutes: int = 60
    longest_list: int = 10_000
    vanishing_records: int = 10
    vanishing_share: float = 0.5
    mass_refusal_count: int = 10
    mass_refusal_share: float = 0.05
    mass_refusal_window: timedelta = timedelta(hours=1)
    fastest_cadence: float = 0.25
    slowest_cadence: float = 2.0
    error_aliases: Mapping[str, str] = field(default_factory=lambda: usual_error_aliases)
    headers: Mapping[str, str] = field(default_factory=dict)
    authorize_parameters: Mapping[str, str] = field(default_factory=dict)
    resources: tuple[Resource, ...] = ()
    views: tuple[View, ...] = ()
    webhook: Hook | None = None

    @property
    def shown_name(self) -> str:
        """What a page calls it."""
        return self.title or self.name.capitalize()

    def resource(self, name: str) -> Resource | None:
        """The resource of that name, if the profile has it."""
        return next((resource for resource in self.resources if resource.name == name), None)

    def parent_key_of(self, resource: Resource) -> str:
        """The dotted path of what names the resource's parent in its path: its own, or the parent's id."""
        parent = self.resource(resource.parent)
        return resource.parent_key or ("id" if parent is None else parent.id)

    @property
    def account_resource(self) -> Resource:
        """The resource whose answer names the account; it may be none of those that are synced."""
        found = (resource for resource in self.resources if resource.path == self.account_path)
        return next(found, Resource(name="account", path=self.account_path))

    def api_url_of(self, resource: Resource) -> str:
        """The URL below which a resource is: its own, or the API's."""
        return resource.api_url or self.api_url

    def headers_with(self, ours: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """The headers of an API request but those that name host and token: the profile's, and ours that it leaves."""
        own = {name.encode("ascii"): value.encode("ascii") for name, value in self.headers.items()}
        named = {name.lower() for name in own}
        return [*(pair for pair in ours if pair[0].lower() not in named), *own.items()]

    def authorization(self, access_token: Secret) -> bytes:
        """The `Authorization` header of an API request. Raises UnicodeError if the token can't be sent."""
        return f"{self.auth_scheme} {access_token.reveal()}".encode("ascii")

    def view_name(self, view: View) -> str:
        """What the view is called in the database."""
        return f"{self.name}_{view.name}"

    def authorize_url_for(self, client_id: str, redirect_uri: str, state: str, challenge: str | None) -> str:
        """Where to send the browser (RFC 6749 §4.1.1), with an S256 challenge if one is given (RFC 7636 §4.3).

        A query that the profile's URL brings along stays, but for the parameters set here; a fragment goes.
        """
        asked = {
            **self.authorize_parameters,
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": redirect_uri,
            **({"scope": self.scope} if self.scope else {}),
            **({"prompt": self.prompt} if self.prompt else {}),
            "state": state,
        }
        if challenge is not None:
            asked |= {"code_challenge": challenge, "code_challenge_method": "S256"}
        url = urlsplit(self.authorize_url)
        brought = [pair for pair in parse_qsl(url.query, keep_blank_values=True) if pair[0] not in asked]
        return urlunsplit(url._replace(query=urlencode([*brought, *asked.items()]), fragment=""))


def unsign(value: object) -> object:
    """The value with every http(s) URL in it cut before its query, at any depth.

    A pre-signed URL names its object in the path and carries signature and expiry in the query, so another object
    is still a change and another signature is none.
    """
    if isinstance(value, str):
        return value.partition("?")[0] if value.startswith(("http://", "https://")) else value
    if isinstance(value, list):
        return [unsign(element) for element in value]
    if isinstance(value, dict):
        return {key: unsign(inner) for key, inner in value.items()}
    return value
