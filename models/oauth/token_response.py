"""What a token endpoint's answer means, as one of a few outcomes.

Any 2xx with a usable access token is a grant. Anything else is read by (grant, status, `error`), never by the status
alone: Laravel Passport 12 refuses a dead refresh token with 401 `invalid_request`, Passport 13 with 400
`invalid_grant`, others with 403 or even 200, and a 400 `invalid_request` on a refresh is a malformed request of ours.
Vendors' own names for the errors of RFC 6749 come as aliases from the profile. Hints and descriptions refine a reason
for people, with one exception: `invalid_request` that names `client_id` or `client_secret` is about our client. A body
counts if it is a whole JSON object, even if the connection broke after it: a pair that can be read is not lost.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Literal

from models.crypto.redact import clean_text, excerpt
from models.crypto.secrets import Secret
from models.http import HttpAnswer, NoAnswer, read_fields, read_retry_after
from models.provider import usual_error_aliases

GrantType = Literal["authorization_code", "refresh_token"]

longest_description = 300
longest_name = 200
most_tables = 50
"""Objects of an answer that are searched for an error."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen, for people: never a token."""

    status: int | None = None
    error: str = ""
    hint: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class TokensGranted:
    """A new pair. No refresh token means that the old one stays (RFC 6749 §6)."""

    access_token: Secret
    refresh_token: Secret | None
    expires_in: timedelta | None
    scope: str | None


@dataclass(frozen=True, slots=True)
class GrantRefused:
    """The code or refresh token is dead; `expired` if the provider's hint says that its time had run out.

    `unreadable` is whether the server says that it can't read it: that is about the server's keys, and never the
    user's doing.
    """

    evidence: Evidence
    expired: bool
    unreadable: bool = False


@dataclass(frozen=True, slots=True)
class ClientRefused:
    """Our client, not the user's grant: wrong secret, deleted client, no token endpoint there."""

    evidence: Evidence


@dataclass(frozen=True, slots=True)
class ScopeRefused:
    """The scope sent is wider than granted; nothing was spent."""

    evidence: Evidence


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """The request was malformed, by our own mistake; nothing was spent."""

    evidence: Evidence


@dataclass(frozen=True, slots=True)
class NotNow:
    """The grant did not run: throttled, in maintenance, or never reached. Nothing was spent.

    Not so sure with a 503: a server on the way may say that for one behind it that could.
    """

    evidence: Evidence
    retry_after: timedelta | None
    throttled: bool
    sure: bool = True


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """The grant may have run: no one can tell from this answer whether the token was spent.

    `misdirected` is whether something else than a token endpoint answered: a redirect, or a body that is not OAuth's.
    """

    evidence: Evidence
    misdirected: bool = False


TokenOutcome = TokensGranted | GrantRefused | ClientRefused | ScopeRefused | RequestRefused | NotNow | OutcomeUnknown

client_errors = frozenset({"invalid_client", "unauthorized_client", "unsupported_grant_type"})
not_now_errors = frozenset({"slow_down", "temporarily_unavailable"})
protocol_errors = client_errors | not_now_errors | {"invalid_grant", "invalid_request", "invalid_scope", "server_error"}
other_token_types = frozenset(
    {"basic", "digest", "dpop", "gnap", "hawk", "hoba", "mac", "mutual", "n_a", "negotiate", "pop"}
)
"""Types of a token that can't be sent as a bearer token. A word that names no scheme at all says nothing."""
error_names = ("error", "code", "error_code", "errorCode", "errorType", "error_type", "type", "name", "status")
description_names = ("error_description", "description", "message", "detail", "title")

_client = r"\W{0,2}client[_ ](id|secret)\b\W{0,2}"
_without_client = (
    rf"\b(check the|missing|empty|invalid|required)( parameters?| value)?( for)?\W{{0,3}}( the )?{_client}"
    rf"|\b{_client}( parameter)?( is| was| must be)?( not)? ?(missing|empty|required|blank|provided|present)"
)
"""A complaint about a parameter, next to the name of one of the client's."""


def read_token_answer(
    grant: GrantType,
    answer: HttpAnswer | NoAnswer,
    now: datetime,
    sent: Sequence[str] = (),
    aliases: Mapping[str, str] = usual_error_aliases,
) -> TokenOutcome:
    """Decide what the answer to a token request proves.

    `now` is for `Retry-After`, which may be a date. `sent` are the secrets of the request: if a server echoes one, no
    evidence repeats it. `aliases` maps the provider's own error names to those of RFC 6749 §5.2.
    """
    if isinstance(answer, NoAnswer):
        evidence = Evidence(description=answer.why)
        return OutcomeUnknown(evidence) if answer.sent else NotNow(evidence, answer.retry_after, throttled=False)
    fields = read_fields(answer)
    granted = _read_tokens(fields) if fields is not None and _is_success(answer.status) else None
    if granted is not None:
        return granted
    said = _find_error(fields or {}, aliases)
    evidence = _evidence(answer.status, said, sent)
    retry_after = read_retry_after(answer.headers, now)
    match answer.status:
        case 429:
            return NotNow(evidence, retry_after, throttled=True)
        case 503:
            return NotNow(evidence, retry_after, throttled=False, sure=False)
        case 407:  # A proxy of ours wants to be paid in credentials: the provider never saw the request.
            return NotNow(evidence, retry_after, throttled=False)
        case status if _is_success(status) or 400 <= status < 500:
            if said.error in not_now_errors:
                return NotNow(evidence, retry_after, throttled=False)
            refusal = _read_refusal(grant, status, said, evidence)
            if isinstance(refusal, OutcomeUnknown) and not said.error and answer.complete:
                return OutcomeUnknown(evidence, misdirected=True)
            return refusal
        case status:
            return OutcomeUnknown(evidence, misdirected=300 <= status < 400)


def _is_success(status: int) -> bool:
    return 200 <= status < 300


def _read_refusal(grant: GrantType, status: int, said: "_Said", evidence: Evidence) -> TokenOutcome:
    """What a 4xx, or a 2xx without tokens, refuses: decided by its `error`, and by the status if there is none."""
    match status, said.error:
        case _, error if error in client_errors:
            return ClientRefused(evidence)
        case _, "invalid_request" if _names_client(evidence):
            return ClientRefused(evidence)
        case (_, "invalid_grant") | (401, "invalid_request"):
            return GrantRefused(evidence, _says_expired(evidence), _says_unreadable(evidence))
        case _, "invalid_request" if grant == "authorization_code":
            return GrantRefused(evidence, _says_expired(evidence), _says_unreadable(evidence))
        case _, "invalid_scope":
            return ScopeRefused(evidence)
        case _, "invalid_request":
            return RequestRefused(evidence)
        case _, "server_error":
            return OutcomeUnknown(evidence)
        case ((404 | 405), _):
            return ClientRefused(evidence)
        case status, error if error and (_is_success(status) or status in (400, 422)):
            return RequestRefused(evidence)
        case _:
            return OutcomeUnknown(evidence)


def _read_tokens(fields: Mapping[str, object]) -> TokensGranted | None:
    """The pair of RFC 6749 §5.1, read generously: it exists only here, and whoever is too strict loses it.

    Unknown fields are ignored; `token_type`, `expires_in` and `scope` may be missing or of another type. A pair may be
    wrapped in `data`.
    """
    inner = fields.get("data")
    if "access_token" not in fields and isinstance(inner, dict):
        fields = inner
    access, refresh = (_read_token(fields.get(name)) for name in ("access_token", "refresh_token"))
    kind = fields.get("token_type")
    if not access or (isinstance(kind, str) and kind.strip().lower() in other_token_types):
        return None
    if not (_can_be_sent(access) and _can_be_sent(refresh)):
        return None
    return TokensGranted(
        access_token=Secret(access),
        refresh_token=Secret(refresh) if refresh else None,
        expires_in=_read_seconds(fields.get("expires_in")),
        scope=_read_scope(fields.get("scope")),
    )


def _read_token(value: object) -> str:
    return value.strip(" \t\r\n") if isinstance(value, str) else ""


def _read_scope(value: object) -> str | None:
    """A text, or a list of them (RFC 6749 §3.3 has blanks between scopes)."""
    if isinstance(value, list):
        return clean_text(" ".join(each for each in value if isinstance(each, str)))
    return clean_text(value) if isinstance(value, str) else None


def _can_be_sent(token: str) -> bool:
    """Tokens are printable ASCII (RFC 6749 appendix A.12 and A.17); nothing else can stand in a header."""
    return token.isascii() and token.isprintable()


def _read_seconds(value: object) -> timedelta | None:
    if isinstance(value, bool):
        return None
    try:
        seconds = float(value) if isinstance(value, int | float | str) else -1.0
    except (ValueError, OverflowError):
        return None
    return timedelta(seconds=min(seconds, 3.2e9)) if seconds > 0 else None


@dataclass(frozen=True, slots=True)
class _Said:
    """An error as the answer names it: `error` is a name of the protocol if it is known for one, `name` is theirs."""

    error: str
    name: str
    hint: str
    description: str


def _find_error(fields: Mapping[str, object], aliases: Mapping[str, str]) -> _Said:
    """The error that these fields name: as RFC 6749 §5.2 says, or in an object or a list of objects."""
    tables = list(islice(_find_tables(fields), most_tables))
    named = [(table, text) for table in tables for name in error_names if (text := _text(table, name))]
    known = ((table, text, _translate(text, aliases)) for table, text in named)
    own = _text(fields, "error")
    # Outside `error` and `errors` a word that is no known error is none: "status": "failed" says nothing.
    other = next(((table, text, text) for table, text in named if table is not fields or text == own), (fields, "", ""))
    table, name, error = next((each for each in known if each[2] in protocol_errors), other)
    descriptions = (_text(each, name) for each in (table, fields) for name in description_names)
    return _Said(
        error=error,
        name=name,
        hint=_text(table, "hint") or _text(fields, "hint"),
        description=next((text for text in descriptions if text), ""),
    )


def _find_tables(fields: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    yield fields
    for value in (fields.get("error"), fields.get("errors")):
        for element in value if isinstance(value, list) else [value]:
            if isinstance(element, dict):
                yield element
            elif isinstance(element, str):
                yield {"error": element}


def _translate(name: str, aliases: Mapping[str, str]) -> str:
    """The RFC's name for a vendor's; `INVALID_GRANT` and `invalid-grant` are `invalid_grant`, a long text is none."""
    if len(name) > longest_name:
        return name
    plain = re.sub(r"[\s-]+", "_", name.strip().lower())
    return aliases.get(name) or aliases.get(plain) or plain


def _evidence(status: int, said: _Said, sent: Sequence[str]) -> Evidence:
    """Hide the secrets that were sent, but not in the name of a known error."""
    return Evidence(
        status=status,
        error=excerpt(said.name, () if said.error in protocol_errors else sent, longest_description),
        hint=excerpt(said.hint, sent, longest_description),
        description=excerpt(said.description, sent, longest_description),
    )


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _says_expired(evidence: Evidence) -> bool:
    """Only a hint says so: the standard description of `invalid_grant` lists "expired" among all that it may be."""
    hint = evidence.hint.lower()
    return "expired" in hint and "revoked" not in hint


def _says_unreadable(evidence: Evidence) -> bool:
    """League says "Cannot decrypt the refresh token"; another code or token of this server's own reads as before."""
    return "decrypt" in f"{evidence.hint} {evidence.description}".lower()


def _names_client(evidence: Evidence) -> bool:
    """Whether a malformed request is one without its client: a header lost on the way, or an empty secret.

    league says "Check the `client_id` parameter", others "Missing parameter: client_secret" or "client_id is required".
    """
    said = (evidence.hint or evidence.description).lower()
    return re.search(_without_client, said) is not None
