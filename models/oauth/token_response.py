"""What a token endpoint's answer means, as one of a few outcomes.

The reading goes by (grant, status, `error`), never by the status alone and never by a hint: Laravel Passport 12
refuses a dead refresh token with 401 `invalid_request`, Passport 13 with 400 `invalid_grant`, and a 400
`invalid_request` on a refresh is a malformed request of ours. Hints only refine a reason for people. A body counts
where it is a whole JSON object, also when the connection broke behind it: a pair that can be read is not lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from models.crypto.redact import clean_text, hide
from models.crypto.secrets import Secret
from models.http import HttpAnswer, NoAnswer, read_object, read_retry_after

GrantType = Literal["authorization_code", "refresh_token"]

longest_description = 300


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
    """The code or refresh token is dead; `expired` where the provider says that its time had run out."""

    evidence: Evidence
    expired: bool


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
    """The grant may have run: nobody can tell from this answer whether the token was spent."""

    evidence: Evidence


TokenOutcome = TokensGranted | GrantRefused | ClientRefused | ScopeRefused | RequestRefused | NotNow | OutcomeUnknown

client_errors = frozenset({"invalid_client", "unauthorized_client", "unsupported_grant_type"})
protocol_errors = client_errors | {
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "server_error",
    "slow_down",
    "temporarily_unavailable",
}


def read_token_answer(
    grant: GrantType, answer: HttpAnswer | NoAnswer, now: datetime, sent: Sequence[str] = ()
) -> TokenOutcome:
    """Decides what the answer to a token request proves; `now` is for the date form of `Retry-After`, and `sent` are
    the secrets of the request: where a server echoes one, no evidence repeats it."""
    if isinstance(answer, NoAnswer):
        evidence = Evidence(description=answer.why)
        return OutcomeUnknown(evidence) if answer.sent else NotNow(evidence, answer.retry_after, throttled=False)
    body = read_object(answer.body)
    evidence = _evidence(answer, body, sent)
    retry_after = read_retry_after(answer.headers, now)
    match answer.status, evidence.error:
        case 200, _:
            return _read_tokens(body) or OutcomeUnknown(evidence)
        case 429, _:
            return NotNow(evidence, retry_after, throttled=True)
        case 503, _:
            return NotNow(evidence, retry_after, throttled=False, sure=False)
        case ((404 | 405), _):
            return ClientRefused(evidence)
        case ((400 | 401 | 403), error) if error in client_errors:
            return ClientRefused(evidence)
        case ((400 | 401), "invalid_grant"):
            return GrantRefused(evidence, _says_expired(evidence))
        case 401, "invalid_request":
            return GrantRefused(evidence, _says_expired(evidence))
        case 400, "invalid_request" if grant == "authorization_code":
            return GrantRefused(evidence, _says_expired(evidence))
        case 400, "invalid_scope":
            return ScopeRefused(evidence)
        case ((400 | 401 | 403), ("temporarily_unavailable" | "slow_down")):
            return NotNow(evidence, retry_after, throttled=False)
        case 400, "server_error":
            return OutcomeUnknown(evidence)
        case 400, error if error:
            return RequestRefused(evidence)
        case _:
            return OutcomeUnknown(evidence)


def _read_tokens(body: dict[str, object] | None) -> TokensGranted | None:
    """RFC 6749 §5.1: unknown fields ignored; `expires_in` and `scope` may be missing; `expires_in` may be a string."""
    if body is None:
        return None
    access, refresh, scope = body.get("access_token"), body.get("refresh_token"), body.get("scope")
    kind = body.get("token_type", "Bearer")
    if not isinstance(access, str) or not access or not isinstance(kind, str) or kind.lower() != "bearer":
        return None
    refresh = refresh if isinstance(refresh, str) else ""
    if not (_can_be_sent(access) and _can_be_sent(refresh)):
        return None
    return TokensGranted(
        access_token=Secret(access),
        refresh_token=Secret(refresh) if refresh else None,
        expires_in=_read_seconds(body.get("expires_in")),
        scope=clean_text(scope) if isinstance(scope, str) else None,
    )


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


def _evidence(answer: HttpAnswer, body: dict[str, object] | None, sent: Sequence[str]) -> Evidence:
    """Without the secrets that were sent. An error of the protocol stays as it is: it decides what the answer means."""
    error = _text(body, "error")
    return Evidence(
        status=answer.status,
        error=error if error in protocol_errors else _hide(error, sent),
        hint=_hide(_text(body, "hint"), sent),
        description=_hide(_text(body, "error_description") or _text(body, "message"), sent),
    )


def _text(body: dict[str, object] | None, name: str) -> str:
    value = (body or {}).get(name)
    return value if isinstance(value, str) else ""


def _hide(text: str, sent: Sequence[str]) -> str:
    """Hidden in what people would see, and before it is shortened: half a secret would not be known for one."""
    return hide(_printable(text), [_printable(secret) for secret in sent])[:longest_description]


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())


def _says_expired(evidence: Evidence) -> bool:
    return "expired" in f"{evidence.hint} {evidence.description}".lower()
