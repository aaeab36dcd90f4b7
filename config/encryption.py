"""Settings of what seals: the ring of keys, the public half of one, and the transit engine of a Vault."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from models.crypto.sealed_text import ring_id_pattern
from models.crypto.vault import Key, KeysRejected, SealingKey, parse_keys, parse_sealing_key
from models.origins import loopback_hosts


def parse_encryption_keys(text: str) -> tuple[Key, ...]:
    """Keys as `id:base64(32 bytes)`, comma-separated."""
    try:
        return parse_keys(text)
    except KeysRejected as rejected:
        raise ValueError("\n".join(rejected.problems)) from None


def parse_public_key(text: str) -> SealingKey:
    """The public half of a key, as `id:base64(32 bytes)`."""
    try:
        return parse_sealing_key(text)
    except KeysRejected as rejected:
        raise ValueError("\n".join(rejected.problems)) from None


def parse_key_ids(text: str) -> frozenset[str]:
    """Ids of keys, comma-separated; `vault:NAME:vVERSION` too."""
    ids = frozenset(part.strip() for part in text.split(","))
    if not all(re.fullmatch(rf"{ring_id_pattern}|vault:[A-Za-z0-9_:-]{{1,80}}", each) for each in ids):
        raise ValueError("expected ids of keys, comma-separated, as breezesync keys status shows them")
    return ids


def parse_server_url(text: str) -> str:
    """The URL of a server that keys travel to: https, or http on this machine."""
    try:
        url = urlsplit(text)
        is_local, _ = url.hostname in loopback_hosts, url.port
    except ValueError:
        raise ValueError("expected a URL like https://vault.example.com:8200") from None
    if not url.hostname or url.scheme not in ("http", "https") or url.username or url.query or url.fragment:
        raise ValueError("expected a URL like https://vault.example.com:8200")
    if url.scheme == "http" and not is_local:
        raise ValueError("expected https, or http on localhost")
    return text.rstrip("/")


def parse_name(text: str) -> str:
    """The name of a key of the transit engine."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise ValueError("expected a name of up to 64 letters, digits, '-' and '_'")
    return text


def parse_mount(text: str) -> str:
    """A path within the server."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*/?", text):
        raise ValueError("expected a path of letters, digits, '-' and '_'")
    return text.strip("/")


def check_encryption(found: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """Return what seals codes: the public key that is set, else the first key's; note one that no key can open."""
    keys: tuple[Key, ...] = found.get("encryption_keys", ())
    public: SealingKey | None = found.get("sealing_key")
    if public is None:
        return {"sealing_key": keys[0].sealing_key if keys else None}
    if keys and public not in [key.sealing_key for key in keys]:
        problems.append(f"SEALING_KEY: no key of ENCRYPTION_KEYS opens what '{public.id}' seals")
    return {}
