"""The keys of the local ring: their text form, and the two keys that each of them stands for.

A key of the ring is never used itself: one key that wraps data keys and one X25519 key pair are derived from it by
HKDF-SHA256, each with an info of its own.
"""

import re
import secrets
from base64 import b64encode
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from models.crypto.errors import KeysRejected
from models.crypto.sealed_text import decode, ring_id_pattern
from models.crypto.secrets import Secret, is_weak

key_bytes = 32


@dataclass(frozen=True, slots=True)
class SealingKey:
    """The public half of a ring key, 32 bytes: it seals, and opens nothing."""

    id: str
    public: bytes

    def line(self) -> str:
        """Return it as `id:base64`, as `parse_sealing_key` reads it."""
        return f"{self.id}:{b64encode(self.public).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the ring; each text it seals names its `id`, and `material` is 32 bytes in base64."""

    id: str
    material: Secret

    def line(self) -> Secret:
        """Return the key as `id:base64`, as `parse_keys` reads it."""
        return Secret(f"{self.id}:{self.material.reveal()}")

    def wrapping_key(self) -> bytes:
        """Return the 32 bytes that wrap data keys."""
        return self._derive(b"breezesync wraps data keys")

    def private_key(self) -> X25519PrivateKey:
        """Return the private half of the pair that `sealing_key` is the public half of."""
        return X25519PrivateKey.from_private_bytes(self._derive(b"breezesync opens sealed boxes"))

    @property
    def sealing_key(self) -> SealingKey:
        return SealingKey(self.id, self.private_key().public_key().public_bytes_raw())

    def _derive(self, purpose: bytes) -> bytes:
        material = decode(self.material.reveal()) or b""
        return HKDF(SHA256(), key_bytes, salt=None, info=purpose).derive(material)


def new_key_id() -> str:
    """Return an id for a new key. It is random: under the id of a lost key, another one would pass for it."""
    return f"k{secrets.token_hex(3)}"


def new_key(name: str) -> Key:
    """Return a new random key. Raises ValueError if the name cannot be a key's id."""
    if not re.fullmatch(ring_id_pattern, name):
        raise ValueError("a key's id has 1 to 32 letters, digits, '-' or '_'")
    return Key(name, Secret(b64encode(secrets.token_bytes(key_bytes)).decode("ascii")))


def parse_keys(text: str) -> tuple[Key, ...]:
    """Read `id:base64(32 bytes)`, separated by commas; URL-safe base64 and missing padding are accepted.

    Raises `KeysRejected` with every problem. Entries are named by position, because a malformed id may be a key.
    """
    keys: list[Key] = []
    problems: list[str] = []
    for position, entry in enumerate(text.split(","), start=1):
        name, material, own = _read_entry(entry)
        if name in {key.id for key in keys}:
            own.append("an earlier entry has the same id")
        if len(material) == key_bytes and is_weak(material):
            own.append(f"expected {key_bytes} random bytes; `breezesync keys new` makes some")
        problems.extend(f"entry {position}: {problem}" for problem in own)
        keys.append(Key(name, Secret(b64encode(material).decode("ascii"))))
    if problems:
        raise KeysRejected(problems)
    return tuple(keys)


def parse_sealing_key(text: str) -> SealingKey:
    """Read `id:base64(32 bytes)` of a public key. Raises `KeysRejected`."""
    name, material, problems = _read_entry(text)
    if problems:
        raise KeysRejected(problems)
    return SealingKey(name, material)


def _read_entry(entry: str) -> tuple[str, bytes, list[str]]:
    """Return an entry's id and bytes, and every problem with them."""
    name, _, encoded = (part.strip() for part in entry.partition(":"))
    material, problems = decode(encoded), list[str]()
    if not re.fullmatch(ring_id_pattern, name):
        problems.append("expected an id of 1 to 32 letters, digits, '-' or '_' and a colon")
    if material is None:
        problems.append("expected base64 after the colon")
    elif len(material) != key_bytes:
        problems.append(f"expected {key_bytes} bytes in base64, got {len(material)}")
    return name, material or b"", problems
