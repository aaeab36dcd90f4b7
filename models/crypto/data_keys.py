"""Data keys, each of which seals one text, and the master keys that wrap them.

To turn a master key over, data keys are wrapped again; what they seal stays as it is.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from models.crypto.keys import Key, key_bytes
from models.crypto.sealed_text import Wrapped, decode, encode

nonce_bytes = 12


@dataclass(frozen=True, slots=True)
class DataKey:
    """A random key for one text, open and wrapped."""

    material: bytes = field(repr=False)
    wrapped: Wrapped


class KeyWrapper(Protocol):
    """A master key, wherever it is kept. All of it for many data keys at once, since some are behind a request."""

    @property
    def id(self) -> str:
        """Name the master key, without its version if it has several."""

    def owns(self, key_id: str) -> bool:
        """Return whether it can be asked for what this master key wrapped."""

    def wrap(self, materials: Sequence[bytes]) -> list[Wrapped]:
        """Wrap data keys."""

    def unwrap(self, wrapped: Sequence[Wrapped]) -> list[bytes | None]:
        """Unwrap data keys; None for each that does not open."""

    def rewrap(self, wrapped: Sequence[Wrapped]) -> list[Wrapped | None]:
        """Wrap data keys again by the newest master key; None for each that does not open."""

    def close(self) -> None:
        """Close its connections, if it has any."""


class ExternalKeys(Protocol):
    """Data keys whose master key is behind a request: only `fetch` and `rewrap` make one."""

    @property
    def wraps(self) -> bool:
        """Whether new data keys come from here; if not, it only opens those of before."""

    @property
    def current_id(self) -> str:
        """Name the master key, with its version, that wraps now."""

    def owns(self, key_id: str) -> bool:
        """Return whether its master key wrapped this."""

    def take(self) -> DataKey:
        """Return a data key from the stock. Raises `KeyNotAtHand` if there has been none yet, or none of late."""

    def require(self) -> None:
        """Raise `KeyNotAtHand` if the stock is low."""

    def find(self, wrapped: Wrapped) -> bytes:
        """Return a data key that was fetched. Raises `KeyNotAtHand`, or `KeyMissing` if its server refused it."""

    def fetch(self, wanted: Sequence[Wrapped]) -> None:
        """Fetch these, and fill the stock up. Raises `KeyServiceUnavailable`."""

    def wrap(self, materials: Sequence[bytes]) -> list[Wrapped]:
        """Wrap data keys that another master key has wrapped so far. Raises `KeyServiceUnavailable`."""

    def rewrap(self, wrapped: Sequence[Wrapped]) -> list[Wrapped | None]:
        """Wrap its own data keys by its newest key. Raises `KeyServiceUnavailable`."""

    def close(self) -> None:
        """Close its connections."""


class KeyRing:
    """The local master keys: the first wraps, all unwrap. Threads may share it."""

    def __init__(self, keys: tuple[Key, ...]) -> None:
        if not keys:
            raise ValueError("a vault needs a key")
        self._ciphers = {key.id: AESGCM(key.wrapping_key()) for key in keys}
        if len(self._ciphers) != len(keys):
            raise ValueError("two keys of a vault have the same id")
        self.id = keys[0].id

    def owns(self, key_id: str) -> bool:
        return key_id in self._ciphers

    def wrap(self, materials: Sequence[bytes]) -> list[Wrapped]:
        return [self._wrap(material) for material in materials]

    def unwrap(self, wrapped: Sequence[Wrapped]) -> list[bytes | None]:
        return [self._unwrap(each) for each in wrapped]

    def rewrap(self, wrapped: Sequence[Wrapped]) -> list[Wrapped | None]:
        return [None if material is None else self._wrap(material) for material in self.unwrap(wrapped)]

    def close(self) -> None:
        """Nothing is open."""

    def new(self) -> DataKey:
        """Return a new data key."""
        drawn = secrets.token_bytes(key_bytes + nonce_bytes)
        material = drawn[:key_bytes]
        return DataKey(material, self._wrap(material, drawn[key_bytes:]))

    def _wrap(self, material: bytes, nonce: bytes | None = None) -> Wrapped:
        nonce = nonce or secrets.token_bytes(nonce_bytes)
        return Wrapped(self.id, encode(nonce + self._ciphers[self.id].encrypt(nonce, material, _bind(self.id))))

    def _unwrap(self, wrapped: Wrapped) -> bytes | None:
        body = decode(wrapped.text) or b""
        try:
            return self._ciphers[wrapped.key_id].decrypt(body[:nonce_bytes], body[nonce_bytes:], _bind(wrapped.key_id))
        except (InvalidTag, ValueError):
            return None


def _bind(key_id: str) -> bytes:
    return f"data key of {key_id}".encode("ascii")
