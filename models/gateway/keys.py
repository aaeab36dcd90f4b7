"""The gateway's keys: named, stored as hashes, each with what it may do."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from models.crypto.secrets import Secret

safe_methods: Final = frozenset({"GET", "HEAD"})
known_methods: Final = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
prefix: Final = "breezesync_"
"""How a key begins, so that a scanner for leaked secrets recognises it."""
name_pattern: Final = r"[A-Za-z0-9_.-]{1,64}"
provider_pattern: Final = r"[a-z][a-z0-9_]*"
expected: Final = "expected NAME:SHA256, as breezesync gateway-key prints it"


@dataclass(frozen=True, slots=True)
class GatewayKey:
    """A key as the settings have it: nobody can call with what is stored.

    name: who has it; two keys of one name are the same caller while a key is turned over.
    digest: the SHA-256 of the key.
    providers: whose connections it sees; None for all.
    methods: with which methods it may call the provider's API.
    token: whether it may have access tokens.
    """

    name: str
    digest: bytes
    providers: frozenset[str] | None = None
    methods: frozenset[str] = safe_methods
    token: bool = False

    def sees(self, provider: str) -> bool:
        """Return whether the connections of this provider exist for it."""
        return self.providers is None or provider in self.providers

    @property
    def actor(self) -> str:
        """Whom the audit names."""
        return f"gateway:{self.name}"

    def line(self) -> str:
        """Return the entry of `GATEWAY_KEYS` that stands for it."""
        scopes = []
        if self.providers is not None:
            scopes.append("providers=" + "+".join(sorted(self.providers)))
        if self.methods != safe_methods:
            scopes.append("methods=" + ("+".join(sorted(self.methods)) or "none"))
        if self.token:
            scopes.append("token")
        return ";".join([f"{self.name}:{self.digest.hex()}", *scopes])


def make_secret() -> Secret:
    """Return a new key of 256 random bits."""
    return Secret(prefix + secrets.token_urlsafe(32))


def digest_of(key: str) -> bytes:
    """Return what is stored of a key. It has 256 random bits, so a fast hash keeps it."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def find_key(keys: Sequence[GatewayKey], given: str) -> GatewayKey | None:
    """Return the key that was given; it takes as long whether or not there is one, and whichever it is."""
    digest, found = digest_of(given), None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found


def parse_gateway_keys(text: str) -> tuple[GatewayKey, ...]:
    """Read `NAME:SHA256[;providers=A+B][;methods=GET+POST][;token]`, comma-separated. Raises ValueError."""
    keys, problems = [], []
    for position, part in enumerate(text.split(","), start=1):
        try:
            keys.append(_parse_key(part.strip()))
        except ValueError as error:
            problems.append(f"key {position}: {error}")
    if len({key.digest for key in keys}) < len(keys):
        problems.append("expected a different SHA256 for each key")
    if problems:
        raise ValueError("\n".join(problems))
    return tuple(keys)


def _parse_key(text: str) -> GatewayKey:
    own, *scopes = (part.strip() for part in text.split(";"))
    match = re.fullmatch(rf"({name_pattern}):([0-9a-fA-F]{{64}})", own)
    if match is None:
        raise ValueError(expected)
    given: dict[str, str] = {}
    for scope in scopes:
        name, equals, value = scope.partition("=")
        if name in given or name not in ("providers", "methods", "token") or bool(equals) == (name == "token"):
            raise ValueError("expected providers=A+B, methods=GET+POST and token after the SHA256, each once")
        given[name] = value
    return GatewayKey(
        name=match[1],
        digest=bytes.fromhex(match[2]),
        providers=parse_providers(given["providers"].split("+")) if "providers" in given else None,
        methods=parse_methods(given["methods"].split("+")) if "methods" in given else safe_methods,
        token="token" in given,
    )


def parse_providers(names: Sequence[str]) -> frozenset[str]:
    """Read names of providers. Raises ValueError."""
    if not all(re.fullmatch(provider_pattern, name) for name in names):
        raise ValueError("expected names of providers, with + between them")
    return frozenset(names)


def parse_methods(names: Sequence[str]) -> frozenset[str]:
    """Read HTTP methods, or `none`. Raises ValueError."""
    methods = frozenset(names)
    if methods == {"none"}:
        return frozenset()
    if not methods <= known_methods:
        raise ValueError(f"expected methods out of {', '.join(sorted(known_methods))}, with + between them, or none")
    return methods
