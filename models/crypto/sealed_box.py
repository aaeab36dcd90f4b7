"""Seal to a public key (RFC 9180, HPKE in base mode): what the web process stores, it can't open itself."""

import json
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from models.crypto.errors import SealBroken
from models.crypto.keys import SealingKey
from models.crypto.sealed_text import Place, PublicSeal, write_sealed
from models.crypto.secrets import Sealed, Secret

box_fields = frozenset({("authorization", "code"), ("authorization", "verifier")})
suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


@dataclass(frozen=True, slots=True)
class Sealer:
    """Seals, and can open nothing."""

    key: SealingKey

    def seal(self, secret: Secret, place: Place) -> Sealed:
        """Seal a secret for this place; sealing it twice gives two different texts."""
        public, info = X25519PublicKey.from_public_bytes(self.key.public), _bind(self.key.id, place)
        body = suite.encrypt(secret.reveal().encode("utf-8", "surrogatepass"), public, info=info)
        return write_sealed(PublicSeal(self.key.id, body))


def open_box(parts: PublicSeal, private: X25519PrivateKey, place: Place) -> Secret:
    """Open what was sealed to the public half of this key, for this place. Raises `SealBroken`.

    Whoever has the public half can seal anything, so only the fields that the web process writes are opened.
    """
    if (place.table, place.field) not in box_fields:
        raise SealBroken(f"the {place.table}.{place.field} of {place.row} is sealed to a public key, as no token is")
    try:
        text = suite.decrypt(parts.body, private, info=_bind(parts.key_id, place))
    except (InvalidTag, ValueError):
        raise SealBroken(
            f"the sealed {place.table}.{place.field} of {place.row} cannot be opened: "
            "it was sealed for another place, with another key of the same id, or altered"
        ) from None
    return Secret(text.decode("utf-8", "surrogatepass"))


def _bind(used: str, place: Place) -> bytes:
    return json.dumps(["h1", used, place.table, place.row, place.field, place.generation]).encode("ascii")
