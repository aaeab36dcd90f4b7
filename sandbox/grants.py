"""Clients, codes, tokens, and the families that tokens belong to. No token value is stored."""

import base64
import hashlib
import itertools
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

CODE_SECONDS = 600
PERSONAL_CLIENT = "personal-access-client"

_JWT_HEAD = base64.urlsafe_b64encode(b'{"typ":"JWT","alg":"RS256"}').rstrip(b"=")


@dataclass(slots=True)
class Client:
    id: str
    secret: str
    redirect_uris: tuple[str, ...]
    name: str


@dataclass(slots=True)
class Presentation:
    """One presentation of a code or refresh token: its time, its outcome, and the fault that hit it."""

    at: float
    outcome: str = "not_reached"
    fault: str | None = None
    answered_at: float | None = None
    limits: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class AccessToken:
    id: int
    family: "Family"
    issued_at: float
    expires_at: float
    revoked: bool = False
    key: int = 0

    def is_live(self, now: float) -> bool:
        return not self.revoked and now < self.expires_at


@dataclass(slots=True)
class RefreshToken:
    """`spent_at` is set by a rotation only; a token the user revoked is revoked and not spent."""

    id: int
    family: "Family"
    generation: int
    access: AccessToken
    expires_at: float
    revoked: bool = False
    spent_at: float | None = None
    key: int = 0
    presentations: list[Presentation] = field(default_factory=list)

    def state_at(self, now: float) -> str:
        if self.spent_at is not None:
            return "spent"
        if self.revoked:
            return "revoked"
        return "live" if now < self.expires_at else "expired"


@dataclass(slots=True)
class Family:
    """All tokens of one authorization. `scope` is what was requested at the consent page."""

    id: int
    client_id: str
    user_id: int
    scope: tuple[str, ...]
    revoked_at: float | None = None
    access_tokens: list[AccessToken] = field(default_factory=list)
    refresh_tokens: list[RefreshToken] = field(default_factory=list)

    @property
    def granted_scope(self) -> tuple[str, ...]:
        """Passport strips `*` from what a code grants."""
        return tuple(name for name in self.scope if name != "*")

    def is_live(self, now: float) -> bool:
        return any(token.is_live(now) for token in reversed(self.access_tokens)) or any(
            token.state_at(now) == "live" for token in reversed(self.refresh_tokens)
        )

    def revoke(self, now: float) -> None:
        self.revoked_at = now
        for access in self.access_tokens:
            access.revoked = True
        for refresh in self.refresh_tokens:
            refresh.revoked = True


@dataclass(slots=True)
class Code:
    id: int
    client_id: str
    user_id: int
    redirect_uri: str
    scope: tuple[str, ...]
    challenge: str | None
    challenge_method: str
    expires_at: float
    used: bool = False
    key: int = 0
    presentations: list[Presentation] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Pair:
    """A freshly issued pair: the records and, for the answer only, the values."""

    access: AccessToken
    refresh: RefreshToken
    access_value: str
    refresh_value: str


class Grants:
    """Issues, finds and revokes tokens. Values are looked up by digest.

    Each value belongs to the server key that was in use when it was issued; under another key it can't be read.
    """

    def __init__(self) -> None:
        self.clients: dict[str, Client] = {}
        self.codes: dict[bytes, Code] = {}
        self.access_tokens: dict[bytes, AccessToken] = {}
        self.refresh_tokens: dict[bytes, RefreshToken] = {}
        self.families: dict[int, list[Family]] = {}
        self.key = 0
        self.newest_key = 0
        self.last_id = 0

    def next_id(self) -> int:
        self.last_id += 1
        return self.last_id

    def replace_keys(self) -> None:
        """Use a new server key: no earlier token or code can be read any more."""
        self.newest_key += 1
        self.key = self.newest_key

    def restore_keys(self) -> None:
        """Use the first server key again: what was issued under it can be read, what came later can't."""
        self.key = 0

    def issue_code(
        self,
        client_id: str,
        user_id: int,
        *,
        redirect_uri: str,
        scope: tuple[str, ...],
        pkce: tuple[str | None, str],
        now: float,
    ) -> str:
        """Return a new code; `pkce` is the challenge, None if there was none, with its method."""
        value = _encrypted_looking()
        self.codes[_digest(value)] = Code(
            self.next_id(),
            client_id,
            user_id,
            redirect_uri,
            scope,
            *pkce,
            now + CODE_SECONDS,
            key=self.key,
        )
        return value

    def find_code(self, value: str) -> Code | None:
        code = self.recall_code(value)
        return code if code is not None and code.key == self.key else None

    def find_access(self, value: str) -> AccessToken | None:
        access = self.access_tokens.get(_digest(value))
        return access if access is not None and access.key == self.key else None

    def find_refresh(self, value: str) -> RefreshToken | None:
        refresh = self.recall_refresh(value)
        return refresh if refresh is not None and refresh.key == self.key else None

    def recall_code(self, value: str) -> Code | None:
        """Find a code whatever key it was issued under: the counters know more than the server."""
        return self.codes.get(_digest(value))

    def recall_refresh(self, value: str) -> RefreshToken | None:
        return self.refresh_tokens.get(_digest(value))

    def open_family(self, client_id: str, user_id: int, scope: tuple[str, ...]) -> Family:
        family = Family(self.next_id(), client_id, user_id, scope)
        self.families.setdefault(user_id, []).append(family)
        return family

    def issue_access(self, family: Family, now: float, ttl: float) -> tuple[AccessToken, str]:
        access = AccessToken(self.next_id(), family, now, now + ttl, key=self.key)
        value = _jwt_looking(access)
        self.access_tokens[_digest(value)] = access
        family.access_tokens.append(access)
        return access, value

    def issue_pair(self, family: Family, generation: int, now: float, access_ttl: float, refresh_ttl: float) -> Pair:
        access, access_value = self.issue_access(family, now, access_ttl)
        refresh = RefreshToken(self.next_id(), family, generation, access, now + refresh_ttl, key=self.key)
        refresh_value = _encrypted_looking()
        self.refresh_tokens[_digest(refresh_value)] = refresh
        family.refresh_tokens.append(refresh)
        return Pair(access, refresh, access_value, refresh_value)

    def families_of(self, user_id: int, client_id: str | None = None) -> Iterator[Family]:
        for family in self.families.get(user_id, ()):
            if client_id in (None, family.client_id):
                yield family

    def has_live_token(self, user_id: int, client_id: str, scope: tuple[str, ...], now: float) -> bool:
        return any(
            token.is_live(now)
            for family in self.families_of(user_id, client_id)
            if family.scope == scope
            for token in reversed(family.access_tokens)
        )

    def revoke_user(self, user_id: int, client_id: str | None, now: float) -> int:
        """End a user's grants, of one client or of all; return how many were active."""
        ended = 0
        for family in self.families_of(user_id, client_id):
            ended += family.is_live(now)
            family.revoke(now)
        return ended

    def delete_client(self, client_id: str, now: float) -> None:
        """Delete a client and all of its tokens."""
        del self.clients[client_id]
        for families in self.families.values():
            for family in families:
                if family.client_id == client_id:
                    family.revoke(now)

    def expire(self, user_id: int | None, at: float, *, access: bool, refresh: bool) -> int:
        """Set the expiry of existing tokens to `at`; return how many changed."""
        changed = 0
        families = (
            itertools.chain.from_iterable(self.families.values()) if user_id is None else self.families_of(user_id)
        )
        for family in families:
            tokens: list[AccessToken | RefreshToken] = [
                *(family.access_tokens if access else ()),
                *(family.refresh_tokens if refresh else ()),
            ]
            for token in tokens:
                if token.expires_at > at:
                    token.expires_at = at
                    changed += 1
        return changed


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "replace")).digest()


def _encrypted_looking() -> str:
    """About 700 characters of hex behind the version mark of PHP's Defuse library."""
    return "def50200" + secrets.token_hex(346)


def _jwt_looking(token: AccessToken) -> str:
    """About 1,000 characters in three parts; the signature is noise."""
    claims = {
        "aud": token.family.client_id,
        "jti": secrets.token_hex(40),
        "iat": round(token.issued_at, 6),
        "nbf": round(token.issued_at, 6),
        "exp": round(token.expires_at, 6),
        "sub": str(token.family.user_id),
        "scopes": list(token.family.granted_scope),
    }
    body = base64.urlsafe_b64encode(json.dumps(claims, separators=(",", ":")).encode()).rstrip(b"=")
    noise = base64.urlsafe_b64encode(secrets.token_bytes(512)).rstrip(b"=")
    return b".".join((_JWT_HEAD, body, noise)).decode()
