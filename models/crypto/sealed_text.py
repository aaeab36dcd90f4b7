"""The stored form of a sealed secret, the place it belongs to, and the key that it names.

    v1.<master key>.<wrapped data key>.<nonce, ciphertext and tag>   sealed with a data key of its own
    h1.<ring key>.<encapsulated key, ciphertext and tag>             sealed to a public key (RFC 9180)

All but the key's id is base64url. Everything up to and including the second dot is what all texts of one key have in
common.
"""

import binascii
import re
from base64 import b64decode, urlsafe_b64encode
from dataclasses import dataclass, field

from models.crypto.secrets import Sealed

ring_id_pattern = r"[A-Za-z0-9_-]{1,32}"
transit_id_pattern = r"vault:[A-Za-z0-9_-]{1,64}:v[0-9]{1,9}"
encoded = r"[A-Za-z0-9_-]+"
pattern = re.compile(
    rf"v1\.(?P<key>{ring_id_pattern}|{transit_id_pattern})\.(?P<wrapped>{encoded})\.(?P<body>{encoded})"
    rf"|h1\.(?P<ring>{ring_id_pattern})\.(?P<capsule>{encoded})"
)


class NotSealed(ValueError):
    """The text is not of this form."""


@dataclass(frozen=True, slots=True)
class Place:
    """The field that a sealed text belongs to: it opens in no other.

    generation: of the connection whose token it is, so that an older seal of the same field does not open; None for
    fields that are written once.
    """

    table: str
    row: str
    field: str
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A data key, wrapped by the master key `key_id`; `text` is base64url."""

    key_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """A text sealed with a data key."""

    wrapped: Wrapped
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PublicSeal:
    """A text sealed to the public half of the ring key `key_id`."""

    key_id: str
    body: bytes = field(repr=False)


def read_sealed(sealed: Sealed) -> Envelope | PublicSeal:
    """Take a sealed text apart. Raises `NotSealed`."""
    match = pattern.fullmatch(sealed.text)
    body = None if match is None else decode_strictly(match["body"] or match["capsule"])
    if match is None or body is None or (match["wrapped"] and decode_strictly(match["wrapped"]) is None):
        raise NotSealed("this is not a sealed text: expected v1.<key>.<wrapped key>.<body> or h1.<key>.<body>")
    if match["ring"]:
        return PublicSeal(match["ring"], body)
    return Envelope(Wrapped(match["key"], match["wrapped"]), body)


def write_sealed(parts: Envelope | PublicSeal) -> Sealed:
    """Put a sealed text together."""
    if isinstance(parts, PublicSeal):
        return Sealed(f"h1.{parts.key_id}.{encode(parts.body)}")
    return Sealed(f"v1.{parts.wrapped.key_id}.{parts.wrapped.text}.{encode(parts.body)}")


def key_id(sealed: Sealed) -> str:
    """Return the id of the master key that sealed this text. Raises `NotSealed`."""
    parts = read_sealed(sealed)
    return parts.key_id if isinstance(parts, PublicSeal) else parts.wrapped.key_id


def prefix_of(sealed: Sealed) -> str:
    """Return a sealed text up to and including its second dot; up to the last one if there are fewer."""
    parts = sealed.text.split(".", 2)
    return "".join(f"{part}." for part in parts[:2]) if len(parts) == 3 else sealed.text[: sealed.text.rfind(".") + 1]


def prefixes_of(key: str) -> tuple[str, str]:
    """Return the beginnings of the texts that a key has sealed."""
    return f"v1.{key}.", f"h1.{key}."


def encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_strictly(text: str) -> bytes | None:
    """Decode what `encode` returned, and no other way to write the same bytes; None for anything else."""
    data = decode(text)
    return data if data is not None and encode(data) == text else None


def decode(text: str) -> bytes | None:
    """Decode strict base64 of either alphabet, padded or not; return None for anything else."""
    plain = text.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        return b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
