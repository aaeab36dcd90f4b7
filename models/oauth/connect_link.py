"""A connect link: an application's signed, short-lived permission for one of its users to connect an account."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import jwt
from jwt.types import Options

from models.crypto.secrets import Secret
from models.errors import Permanent
from models.origins import origin_of

longest_life = timedelta(minutes=15)
clock_leeway = timedelta(seconds=30)
longest_token = 8192
most_teams = 100

Reason = Literal[
    "unreadable",
    "bad_signature",
    "expired",
    "lives_too_long",
    "issued_in_future",
    "not_yet_valid",
    "bad_times",
    "bad_user",
    "bad_jti",
    "bad_audience",
    "bad_name",
    "bad_return_to",
    "bad_team_ids",
    "bad_connection_id",
]

_for_people = {
    "expired": "This link has expired. Go back to the application and ask for a new one.",
    "not_yet_valid": "This link is not valid yet. Go back to the application and try again in a moment.",
    "issued_in_future": "This link is not valid yet. Go back to the application and try again in a moment.",
}
_for_people_otherwise = "This link is not valid. Go back to the application and start again from there."


class LinkRefused(Permanent):
    """A link that can't be used. `reason` is for logs, the text for the person who followed the link."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(_for_people.get(reason, _for_people_otherwise))
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectLink:
    """The claims of a link. Times are whole seconds; `connection_id` asks to authorize that connection again.

    `provider` is the only one that it is good for, if it names one; `name` is the person's, as our page says it.
    """

    user_id: str
    issued_at: datetime
    expires_at: datetime
    jti: str
    return_to: str | None = None
    team_ids: tuple[int, ...] = ()
    connection_id: str | None = None
    provider: str | None = None
    name: str | None = None


def sign_link(link: ConnectLink, secret: Secret) -> str:
    """Return the link as a JWT (RFC 7519), signed with HS256."""
    claims: dict[str, object] = {
        "sub": link.user_id,
        "iat": int(link.issued_at.timestamp()),
        "exp": int(link.expires_at.timestamp()),
        "jti": link.jti,
    }
    if link.provider is not None:
        claims["aud"] = link.provider
    if link.name is not None:
        claims["name"] = link.name
    if link.return_to is not None:
        claims["return_to"] = link.return_to
    if link.team_ids:
        claims["team_ids"] = list(link.team_ids)
    if link.connection_id is not None:
        claims["connection_id"] = link.connection_id
    return jwt.encode(claims, secret.reveal(), algorithm="HS256")


def read_link(
    token: str, secrets: Sequence[Secret], now: datetime, return_origins: Collection[str], provider: str
) -> ConnectLink:
    """Check signature, times and claims; any of the secrets may have signed. Raises `LinkRefused`.

    It is opened at `provider`, which has to be its `aud` if it has one.

    An optional claim that is null counts as absent. Whether the link was used before is not known here.
    """
    claims = _verify(token, secrets)
    issued_at, expires_at = _read_times(claims, now)
    return ConnectLink(
        user_id=_read_text(claims.get("sub"), 255, "bad_user"),
        issued_at=issued_at,
        expires_at=expires_at,
        jti=_read_text(claims.get("jti"), 255, "bad_jti"),
        provider=_read_audience(claims.get("aud"), provider),
        name=_read_name(claims.get("name")),
        return_to=_read_return_to(claims.get("return_to"), return_origins),
        team_ids=_read_team_ids(claims.get("team_ids")),
        connection_id=(
            None
            if claims.get("connection_id") is None
            else _read_text(claims["connection_id"], 64, "bad_connection_id")
        ),
    )


def _verify(token: str, secrets: Sequence[Secret]) -> Mapping[str, object]:
    if len(token) > longest_token:
        raise LinkRefused("unreadable")
    for secret in secrets:
        try:
            return _decode(token, secret)
        except jwt.InvalidSignatureError:
            continue
        except (jwt.PyJWTError, ValueError):
            raise LinkRefused("unreadable") from None
        except RecursionError:
            # A header of nothing but brackets reaches the JSON parser before the signature is looked at.
            raise LinkRefused("unreadable") from None
    raise LinkRefused("bad_signature")


def _decode(token: str, secret: Secret) -> Mapping[str, object]:
    """Check signature and algorithm only; the caller checks times and claims, with its own clock."""
    ignored: Options = {
        "verify_exp": False,
        "verify_nbf": False,
        "verify_iat": False,
        "verify_aud": False,
        "verify_iss": False,
        "verify_sub": False,
        "verify_jti": False,
    }
    return jwt.decode(token, secret.reveal(), algorithms=["HS256"], options=ignored)


def _read_times(claims: Mapping[str, object], now: datetime) -> tuple[datetime, datetime]:
    issued_at, expires_at = _read_time(claims.get("iat")), _read_time(claims.get("exp"))
    if issued_at > now + clock_leeway:
        raise LinkRefused("issued_in_future")
    if "nbf" in claims and _read_time(claims["nbf"]) > now + clock_leeway:
        raise LinkRefused("not_yet_valid")
    if expires_at - issued_at > longest_life:
        raise LinkRefused("lives_too_long")
    if expires_at <= now:
        raise LinkRefused("expired")
    return issued_at, expires_at


def _read_time(value: object) -> datetime:
    """Read a NumericDate (RFC 7519 §2) without its fraction of a second. The bound is the year 5138."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 10**11:
        raise LinkRefused("bad_times")
    return datetime.fromtimestamp(int(value), UTC)


def _read_text(value: object, longest: int, reason: Reason) -> str:
    """Read a text that every database can store and every log can show: not blank, without control characters."""
    if not isinstance(value, str) or not 1 <= len(value) <= longest:
        raise LinkRefused(reason)
    if not value.isprintable() or value.isspace():
        raise LinkRefused(reason)
    return value


def _read_audience(value: object, provider: str) -> str | None:
    """Read `aud`, a name or a list of names (RFC 7519 §4.1.3)."""
    if value is None:
        return None
    if value != provider and not (isinstance(value, list) and provider in value):
        raise LinkRefused("bad_audience")
    return provider


def _read_name(value: object) -> str | None:
    """Read a person's name; some languages write one with joiners, which print nothing (U+200C, U+200D)."""
    if value is None:
        return None
    shown = value.translate({0x200C: None, 0x200D: None}) if isinstance(value, str) and len(value) <= 255 else value
    _read_text(shown, 255, "bad_name")
    return str(value)


def _read_return_to(value: object, return_origins: Collection[str]) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or origin_of(value) not in return_origins:
        raise LinkRefused("bad_return_to")
    return value


def _read_team_ids(value: object) -> tuple[int, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > most_teams:
        raise LinkRefused("bad_team_ids")
    if not all(isinstance(team, int) and not isinstance(team, bool) and 0 < team < 2**63 for team in value):
        raise LinkRefused("bad_team_ids")
    return tuple(dict.fromkeys(value))
