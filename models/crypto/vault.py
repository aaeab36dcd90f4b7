"""Seal and open secrets with AES-256-GCM, bound to table, row and field, with several keys for rotation.

A sealed text reads `v1.<key id>.<base64url(nonce + ciphertext)>`. The nonce is 96 random bits, so one key should seal
fewer than 2**32 texts (NIST SP 800-38D §8.3).
"""

import binascii
import json
import re
import secrets
from base64 import b64decode, b64encode, urlsafe_b64encode
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from models.crypto.secrets import Sealed, Secret, is_weak
from models.errors import Permanent

nonce_bytes = 12
key_bytes = 32
id_pattern = r"[A-Za-z0-9_-]{1,32}"


class VaultError(Permanent):
    """A secret that cannot be opened, or keys that cannot be used."""


class KeysRejected(VaultError):
    """Encryption keys in a wrong format; `problems` has every reason by position, and never a part of a key."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class KeyMissing(VaultError):
    """The key that sealed this text is not configured."""

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"sealed with key '{key_id}', which is not configured: add it to ENCRYPTION_KEYS after the first key, "
            "and run breezesync keys rotate before you remove it again"
        )
        self.key_id = key_id


class SealBroken(VaultError):
    """The text was sealed for another place, was altered, or is not a sealed text."""


@dataclass(frozen=True, slots=True)
class Place:
    """The field that a sealed text belongs to: it opens in no other."""

    table: str
    row: str
    field: str


@dataclass(frozen=True, slots=True)
class Key:
    """A key; each text it seals names its `id`, and `material` is 32 bytes in base64."""

    id: str
    material: Secret

    def line(self) -> Secret:
        """Return the key as `id:base64`, as `parse_keys` reads it."""
        return Secret(f"{self.id}:{self.material.reveal()}")


class Vault:
    """Seals with the first key and opens with any. Threads may share it."""

    def __init__(self, keys: tuple[Key, ...]) -> None:
        if not keys:
            raise ValueError("a vault needs a key")
        self._ciphers = {key.id: AESGCM(b64decode(key.material.reveal())) for key in keys}
        if len(self._ciphers) != len(keys):
            raise ValueError("two keys of a vault have the same id")
        self._sealing_id = keys[0].id

    def seal(self, secret: Secret, place: Place) -> Sealed:
        """Seal a secret for this place; sealing it twice gives two different texts."""
        nonce = secrets.token_bytes(nonce_bytes)
        text = secret.reveal().encode("utf-8", "surrogatepass")
        body = self._ciphers[self._sealing_id].encrypt(nonce, text, _bind(self._sealing_id, place))
        encoded = urlsafe_b64encode(nonce + body).rstrip(b"=").decode("ascii")
        return Sealed(f"v1.{self._sealing_id}.{encoded}")

    def open(self, sealed: Sealed, place: Place) -> Secret:
        """Open a text that was sealed for this place. Raises `KeyMissing` or `SealBroken`."""
        used, body = _split(sealed)
        cipher = self._ciphers.get(used)
        if cipher is None:
            raise KeyMissing(used)
        try:
            text = cipher.decrypt(body[:nonce_bytes], body[nonce_bytes:], _bind(used, place))
        except InvalidTag:
            raise SealBroken(
                f"the sealed {place.table}.{place.field} of {place.row} cannot be opened: "
                "it was sealed for another place, with another key of the same id, or altered"
            ) from None
        return Secret(text.decode("utf-8", "surrogatepass"))

    def needs_resealing(self, sealed: Sealed) -> bool:
        """Return whether another key than the first sealed this."""
        return key_id(sealed) != self._sealing_id


def key_id(sealed: Sealed) -> str:
    """Return the id of the key that sealed this text. Raises `SealBroken` if it is not a sealed text."""
    return _split(sealed)[0]


def new_key(name: str) -> Key:
    """Return a new random key. Raises ValueError if the name cannot be a key's id."""
    if not re.fullmatch(id_pattern, name):
        raise ValueError("a key's id has 1 to 32 letters, digits, '-' or '_'")
    return Key(name, Secret(b64encode(secrets.token_bytes(key_bytes)).decode("ascii")))


def parse_keys(text: str) -> tuple[Key, ...]:
    """Read `id:base64(32 bytes)`, separated by commas; URL-safe base64 and missing padding are accepted.

    Raises `KeysRejected` with every problem. Entries are named by position, because a malformed id may be a key.
    """
    keys: list[Key] = []
    problems: list[str] = []
    for position, entry in enumerate(text.split(","), start=1):
        name, _, encoded = (part.strip() for part in entry.partition(":"))
        material = _read_base64(encoded)
        if not re.fullmatch(id_pattern, name):
            problems.append(f"entry {position}: expected an id of 1 to 32 letters, digits, '-' or '_' and a colon")
        if name in {key.id for key in keys}:
            problems.append(f"entry {position}: an earlier entry has the same id")
        if material is None:
            problems.append(f"entry {position}: expected base64 after the colon")
        elif len(material) != key_bytes:
            problems.append(f"entry {position}: expected {key_bytes} bytes in base64, got {len(material)}")
        elif is_weak(material):
            problems.append(f"entry {position}: expected {key_bytes} random bytes; `breezesync init` makes some")
        keys.append(Key(name, Secret(b64encode(material or b"").decode("ascii"))))
    if problems:
        raise KeysRejected(problems)
    return tuple(keys)


def _bind(used: str, place: Place) -> bytes:
    """Return the associated data; JSON is unambiguous, joined strings could describe two different places."""
    return json.dumps(["v1", used, place.table, place.row, place.field]).encode("ascii")


def _split(sealed: Sealed) -> tuple[str, bytes]:
    match = re.fullmatch(rf"v1\.({id_pattern})\.([A-Za-z0-9_-]+)", sealed.text)
    body = _read_base64(match[2]) if match else None
    if match is None or body is None or len(body) <= nonce_bytes:
        raise SealBroken("this is not a sealed text: expected v1.<key id>.<base64url>")
    return match[1], body


def _read_base64(encoded: str) -> bytes | None:
    """Decode strict base64 of either alphabet, padded or not; return None for anything else."""
    plain = encoded.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        return b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
