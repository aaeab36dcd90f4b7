"""Each field of a profile: what it means, and what it may hold beyond its type."""

from collections.abc import Mapping
from dataclasses import dataclass

# A view is called provider_view: together they stay below PostgreSQL's 63 characters.
name_pattern = r"[a-z][a-z0-9_]{0,29}"
_part = r"[A-Za-z0-9_-]+"
_key = r"([A-Za-z0-9_@$:-]|\\\.)+"
_path_of_json = rf"{_key}(\.{_key})*"
_field = r"[A-Za-z0-9_]+"
_url_path = r"(/([A-Za-z0-9._~-]+|\{team\}|\{parent\}))+"
_words = r"[!#-\[\]-~]+( [!#-\[\]-~]+)*"
_query = r'[!"$->@-~]*'
_parameter = r"[A-Za-z0-9_.$\[\]-]{1,100}"
largest_number = 10**9
"""As seconds, 31 years, and as minutes, 1901: a date that is so far from ours can still be computed with."""
longest_tolerance = 86_400
length_pattern = r"[0-9]{1,9}(\.[0-9]{1,6})? ?(ms|s|m|h|d|)"
header_name = r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}"
header_value = r"[!-~]([ -~]{0,998}[!-~])?"

own_headers = (
    *("authorization", "connection", "content-length", "cookie", "expect", "host", "te", "trailer", "upgrade"),
    *("accept-encoding", "proxy-authorization", "proxy-connection", "transfer-encoding"),
)
"""Headers that no profile sets: they say whose request it is, or are the connection's own."""
own_parameters = (
    *("client_id", "client_secret", "code_challenge", "code_challenge_method", "prompt", "redirect_uri"),
    *("request", "request_uri", "response_mode", "response_type", "scope", "state"),
)
"""Parameters of the authorization request that are the protocol's, or that a field of their own sets."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A field of a profile.

    text: what it means.
    expected: what is expected, in the words of a fault.
    pattern: of its text, or of each text of its list.
    url: whether it is an http(s) URL; `base` if another path is put behind it, `optional` if it may be empty.
    least, most: the bounds of its number; it is above `above`.
    """

    text: str
    expected: str = ""
    pattern: str = ""
    url: str = ""
    least: float | None = None
    most: float | None = None
    above: float | None = None


def _number(text: str, least: int = 1, most: int = largest_number) -> Rule:
    return Rule(text, f"expected {least} to {most}", least=least, most=most)


def _json_path(text: str, optional: bool = False, more: str = "") -> Rule:
    pattern = f"{_path_of_json}{more}"
    return Rule(text, "expected a field's name, or a dotted path", f"({pattern})?" if optional else pattern)


_name = "expected up to 30 small letters, digits and underscores"
_parameter_expected = "expected the name of a parameter"

provider_rules: Mapping[str, Rule] = {
    "title": Rule("What people call the provider; by default its name with a capital letter."),
    "authorize_url": Rule("Where browsers go to allow access (RFC 6749 §3.1).", url="endpoint"),
    "token_url": Rule("The token endpoint (RFC 6749 §3.2).", url="endpoint"),
    "api_url": Rule("The URL below which the API is, without a query.", url="base"),
    "api_url_alternatives": Rule("Other bases that `breezesync doctor` tries if `api_url` does not answer."),
    "revoke_url": Rule("Where tokens are revoked (RFC 7009); empty if there is no such place.", url="optional"),
    "issuer": Rule("What the callback's `iss` has to be (RFC 9207); empty if the provider sends none.", url="optional"),
    "scope": Rule("What is asked for.", "expected scopes with one space between them", f"({_words})?"),
    "refresh_scope": Rule(
        "The scope that a refresh sends; empty is not sent.",
        "expected scopes with one space between them",
        f"({_words})?",
    ),
    "prompt": Rule(
        "Sent with every redirect to the provider, for example `consent`; empty is not sent.",
        "expected words with one space between them, like consent",
        f"({_words})?",
    ),
    "authorize_parameters": Rule(
        "A table of more parameters of that redirect, for example `access_type`; not those of the protocol."
    ),
    "token_body": Rule("How a token request is written: `json` or `form`."),
    "client_auth": Rule("How a token request names the client: in its `body`, or by HTTP `basic`."),
    "pkce": Rule("Whether an S256 challenge is sent (RFC 7636)."),
    "code_seconds": _number("How long an authorization code is presented after it arrived."),
    "refresh_reuse": Rule(
        "What a refresh token presented twice does: no harm (`harmless`), end its family (`family_revoked`), or that only "
        "after `grace_seconds` (`grace`)."
    ),
    "grace_seconds": _number("See `refresh_reuse`.", 0),
    "rotation_ends_access": Rule("Whether a rotation ends the access token that was issued before."),
    "token_requests_per_minute": _number("How many token requests the whole fleet may make."),
    "api_requests_per_minute": _number("How many API requests may be made for one account."),
    "auth_scheme": Rule(
        "What comes before the access token in the `Authorization` header.",
        "expected Bearer, token, or another word that is no scheme with a meaning of its own, like Basic",
        r"(?!([Bb][Aa][Ss][Ii][Cc]|[Dd][Ii][Gg][Ee][Ss][Tt]|[Nn][Ee][Gg][Oo][Tt][Ii][Aa][Tt][Ee])$)[A-Za-z][A-Za-z0-9_-]{0,39}",
    ),
    "headers": Rule("A table of headers for every API request, for example the API's version."),
    "account_path": Rule(
        "The path of the answer that names the account.", "expected a path like /me", r"(/[A-Za-z0-9._~-]+)+"
    ),
    "account_id": _json_path("The dotted path of the account's id in it."),
    "account_email": _json_path("The dotted path of the account's e-mail address in it."),
    "allow_http": Rule("Whether the endpoints may be http elsewhere than on this machine: in a network of your own."),
    "null_is_absent": Rule("Whether a field that is null and one that is missing are the same."),
    "peek_above": _number(
        "How many records a list has at least if it is not read whole each time; see `peek` and `since_parameter`.", 0
    ),
    "full_reading_minutes": _number("How often such a list is read whole all the same."),
    "longest_list": _number("After how many pages a list is cut off."),
    "vanishing_records": _number("How many records have to vanish at once to wait for a second run.", 0),
    "vanishing_share": Rule(
        "Which share of a resource that is, as well.", "expected a share from 0 to 1", least=0, most=1
    ),
    "mass_refusal_count": _number("How many connections are refused before the rest is held.", 0),
    "mass_refusal_share": Rule(
        "Which share of the active ones that is, as well.", "expected a share from 0 to 1", least=0, most=1
    ),
    "mass_refusal_window": Rule("In how long a time, for example `1h`."),
    "fastest_cadence": Rule(
        "The shortest time between two syncs of the lists, as a multiple of `SYNC_INTERVAL`.",
        "expected a number above 0 and up to 1",
        above=0,
        most=1,
    ),
    "slowest_cadence": Rule("The longest.", "expected a number from 1 to 1000", least=1, most=1000),
    "error_aliases": Rule("A table of the provider's own words for the errors of RFC 6749 §5.2 and §4.1.2.1."),
    "resources": Rule("What is read: a table each."),
    "views": Rule("What an application can query: a table each."),
    "webhook": Rule("A table: how the provider's webhooks are signed, and which account each is about."),
}
resource_rules: Mapping[str, Rule] = {
    "name": Rule("What records and events call it.", _name, name_pattern),
    "path": Rule(
        "Where it is below `api_url`; with `per_team` it has `{team}` in it, and with `parent` `{parent}`.",
        "expected a path like /documents",
        _url_path,
    ),
    "api_url": Rule("Another URL below which it is. The access token is sent there.", url="optional base"),
    "query": Rule(
        "What goes with the request for every page, encoded.",
        "expected an encoded query without its question mark",
        _query,
    ),
    "peek": Rule(
        "The query whose first page shows what is newest; with it, a long list is not read whole each time.",
        "expected an encoded query without its question mark",
        _query,
    ),
    "since_parameter": Rule(
        "The parameter that filters the list to what changed since a value; with it, a long list is read incrementally.",
        _parameter_expected,
        f"({_parameter})?",
    ),
    "since_field": _json_path(
        "The dotted path of that value in a record: an ISO time or a whole number that rises with each change.",
        optional=True,
    ),
    "since_overlap": _number("How far before the newest known value that begins: seconds, or a number as it is.", 0),
    "id": _json_path("The dotted path of a record's id."),
    "volatile": Rule(
        "Paths of what no change is read from, like `files[].url`, or `files[].*?` for the queries of all URLs below.",
        "expected paths like files[].url or files[].*?",
        rf"{_part}(\[\])*(\.{_part}(\[\])*)*(\.\*\?)?",
    ),
    "per_team": Rule("Whether it is read once for each team that the application names."),
    "parent": Rule("Another resource, above this one: it is read once for each record of that."),
    "parent_key": _json_path(
        "The dotted path, in the parent's record, of what goes into the path: a text or a whole number; by default the "
        "parent's `id`.",
        optional=True,
    ),
    "most_parents": _number("How many parents it is read for.", 1, 1000),
    "id_scope": Rule(
        "Whether an `id` is unique in the whole `account`, or below its `parent` only; then the parent's comes before it: "
        "`PARENT/ID`."
    ),
    "timeout_seconds": _number("After how long the request for a page is given up.", 1, 30),
    "requests_per_minute": _number(
        "How many requests for it may be made for one account, besides `api_requests_per_minute`; 0 if it has no limit of "
        "its own.",
        0,
    ),
    "paging": Rule("How its list comes in pages: see below."),
    "items": _json_path(
        "The dotted path of the list of records; `[]` or empty if the body is that list, but with `none` an empty one "
        "means that the body is one record.",
        optional=True,
        more=r"|\[\]",
    ),
    "total": _json_path("The dotted path of the exact number of records in the list.", optional=True),
    "more": _json_path("The dotted path of what is true, or not empty, if there is another page.", optional=True),
    "cursor": Rule(
        "With `cursor` the dotted path of the next page's cursor, from `[-1].` on in the page's last record; with `link` "
        "that of the next page's URL, or empty if the `Link` header has it.",
        "expected a dotted path, from [-1]. on in the last record",
        rf"((\[-1\]\.)?{_path_of_json})?",
    ),
    "cursor_parameter": Rule("The parameter that the cursor goes into.", _parameter_expected, _parameter),
    "page_parameter": Rule("The parameter of a page's number.", _parameter_expected, _parameter),
    "first_page": _number("The number of the first page.", 0),
    "offset_parameter": Rule(
        "The parameter for how many records come before the page.", _parameter_expected, _parameter
    ),
    "first_offset": _number("Its value for the first page.", 0),
    "size_parameter": Rule(
        "The parameter for how many records a page should have; empty is not sent.",
        _parameter_expected,
        f"({_parameter})?",
    ),
    "size": _number("Its value.", 1, 1000),
}
view_rules: Mapping[str, Rule] = {
    "name": Rule("The view is called by the provider's name and this one.", _name, name_pattern),
    "resource": Rule("The resource that it shows."),
    "columns": Rule("Its columns: a table each."),
}
column_rules: Mapping[str, Rule] = {
    "name": Rule("The column's name.", _name, name_pattern),
    "path": Rule("The dotted path of the field that it shows.", "expected a dotted path", rf"{_field}(\.{_field})*"),
    "type": Rule(
        "What the field holds: `text`, `integer`, `number`, `boolean`, `time`, `date`; a `count` is the number of elements of the list at `path`."
    ),
    "where": Rule(
        "With `count`: only elements whose field of that name is not null.",
        "expected a field's name, with the type count only",
        _field,
    ),
}
_header_expected = "expected a header's name"
_header = r"([A-Za-z0-9-]{1,100})?"
hook_rules: Mapping[str, Rule] = {
    "account": _json_path("The dotted path of the account's id in the body."),
    "signature_header": Rule(
        "The header with the signature; without it, only the secret of the URL is checked.", _header_expected, _header
    ),
    "algorithm": Rule("The hash of the HMAC: `sha256`, `sha1` or `sha512`."),
    "encoding": Rule("How the signature is written: `hex` or `base64`."),
    "prefix": Rule("What comes before the signature, like `sha256=`."),
    "signed": Rule("What is signed: a text with `{body}`, and with `{timestamp}` if there is one."),
    "timestamp_header": Rule(
        "The header with the seconds since 1970; empty if there is none.", _header_expected, _header
    ),
    "tolerance_seconds": _number(
        "How far that may be from our time; without a time, for how long the same body again does nothing.",
        1,
        longest_tolerance,
    ),
}
columns_of_every_view = (
    *("connection_id", "user_id", "account_id", "external_id", "first_seen_at", "changed_at", "data"),
)
