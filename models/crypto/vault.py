"""Seal and open secrets: AES-256-GCM with a data key for each text, which a master key wraps.

The associated data is version, table, row, field and generation, so that a text opens only where and while it is the
newest. It does not name the master key: to turn that over, only the data key is wrapped again.
"""

import json
import secrets
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from models.crypto.data_keys import DataKey, ExternalKeys, KeyRing, nonce_bytes
from models.crypto.errors import (
    KeyMissing,
    KeyNotAtHand,
    KeyServiceUnavailable,
    KeysRejected,
    SealBroken,
    VaultError,
)
from models.crypto.keys import Key, SealingKey, new_key, new_key_id, parse_keys, parse_sealing_key
from models.crypto.sealed_box import Sealer, open_box
from models.crypto.sealed_text import (
    Envelope,
    NotSealed,
    Place,
    PublicSeal,
    Wrapped,
    key_id,
    prefixes_of,
    read_sealed,
    write_sealed,
)
from models.crypto.secrets import Sealed, Secret

__all__ = [
    "Key",
    "KeyMissing",
    "KeyNotAtHand",
    "KeyServiceUnavailable",
    "KeysRejected",
    "Place",
    "SealBroken",
    "Sealer",
    "SealingKey",
    "Vault",
    "VaultError",
    "key_id",
    "new_key",
    "new_key_id",
    "parse_keys",
    "parse_sealing_key",
]


class Vault:
    """Seals by the external master key if there is one, else by the first key of the ring, and opens by any.

    Neither makes a request: what has to be fetched first raises `KeyNotAtHand`, and `fetch` is called outside of any
    transaction. Threads may share it.
    """

    def __init__(self, keys: tuple[Key, ...], external: ExternalKeys | None = None) -> None:
        self.ring = KeyRing(keys)
        self.external = external
        self._private = {key.id: key.private_key() for key in keys}
        self.sealer = Sealer(keys[0].sealing_key)

    @property
    def current_id(self) -> str:
        """The master key that wraps now, with its version if it has several."""
        external = self.external
        return external.current_id if external is not None and external.wraps else self.ring.id

    @property
    def current_prefixes(self) -> tuple[str, str]:
        """How texts begin that need not be sealed again: by a data key, or to a public key."""
        return prefixes_of(self.current_id)[0], prefixes_of(self.ring.id)[1]

    def seal(self, secret: Secret, place: Place) -> Sealed:
        """Seal a secret for this place; sealing it twice gives two different texts."""
        external = self.external
        data_key = external.take() if external is not None and external.wraps else self.ring.new()
        return self._seal_by(data_key, secret, place)

    def _seal_by(self, data_key: DataKey, secret: Secret, place: Place) -> Sealed:
        nonce = secrets.token_bytes(nonce_bytes)
        text = secret.reveal().encode("utf-8", "surrogatepass")
        body = AESGCM(data_key.material).encrypt(nonce, text, _bind(place))
        return write_sealed(Envelope(data_key.wrapped, nonce + body))

    def seal_whatever_happens(self, secret: Secret, place: Place) -> Sealed:
        """Seal as `seal` does, or by the ring if the external master key is not at hand: for what can't wait."""
        try:
            return self.seal(secret, place)
        except KeyNotAtHand:
            return self._seal_by(self.ring.new(), secret, place)

    def open(self, sealed: Sealed, place: Place) -> Secret:
        """Open a text that was sealed for this place. Raises `KeyMissing`, `SealBroken` or `KeyNotAtHand`."""
        parts = _read(sealed)
        if isinstance(parts, PublicSeal):
            private = self._private.get(parts.key_id)
            if private is None:
                raise KeyMissing(parts.key_id)
            return open_box(parts, private, place)
        text = _decrypt(self._find(parts.wrapped), parts.body, place)
        if text is None:
            raise SealBroken(
                f"the sealed {place.table}.{place.field} of {place.row} cannot be opened: it was sealed for another "
                "place or generation, with another key of the same id, or altered"
            )
        return Secret(text.decode("utf-8", "surrogatepass"))

    def require(self, sealed: Sealed | None = None) -> None:
        """Make sure, before a token leaves, that its answer can be saved whatever happens to the master key's server.

        New texts can be sealed, and this one can be opened. Raises `KeyNotAtHand` if that is not so.
        """
        if self.external is not None and self.external.wraps:
            self.external.require()
        parts = None if sealed is None else self._needs_fetch(sealed)
        if parts is not None:
            raise KeyNotAtHand([parts.wrapped])

    def fetch(self, wanted: Sequence[Wrapped] = ()) -> None:
        """Fetch data keys; if no transaction is open. Raises `KeyServiceUnavailable`."""
        if self.external is not None:
            self.external.fetch(wanted)

    def fetch_for(self, texts: Sequence[Sealed]) -> None:
        """Fetch what these texts need, in one request. Raises `KeyServiceUnavailable`."""
        wanted = [parts.wrapped for text in texts if (parts := self._needs_fetch(text)) is not None]
        if wanted:
            self.fetch(wanted)

    def close(self) -> None:
        if self.external is not None:
            self.external.close()

    def _needs_fetch(self, sealed: Sealed) -> Envelope | None:
        try:
            parts = read_sealed(sealed)
            if isinstance(parts, Envelope):
                self._find(parts.wrapped)
        except KeyNotAtHand:
            return parts if isinstance(parts, Envelope) else None
        except (NotSealed, VaultError):
            pass
        return None

    def _find(self, wrapped: Wrapped) -> bytes | None:
        """Return the data key; None if it does not open. Raises `KeyMissing` or `KeyNotAtHand`."""
        if self.ring.owns(wrapped.key_id):
            return self.ring.unwrap([wrapped])[0]
        if self.external is not None and self.external.owns(wrapped.key_id):
            return self.external.find(wrapped)
        raise KeyMissing(wrapped.key_id)


def _bind(place: Place) -> bytes:
    """Return the associated data; JSON is unambiguous, joined strings could describe two different places."""
    return json.dumps(["v1", place.table, place.row, place.field, place.generation]).encode("ascii")


def _decrypt(material: bytes | None, body: bytes, place: Place) -> bytes | None:
    try:
        return (
            None if material is None else AESGCM(material).decrypt(body[:nonce_bytes], body[nonce_bytes:], _bind(place))
        )
    except (InvalidTag, ValueError):
        return None


def _read(sealed: Sealed) -> Envelope | PublicSeal:
    try:
        return read_sealed(sealed)
    except NotSealed as error:
        raise SealBroken(str(error)) from None
