"""A provider's webhook: how it is signed, and which account it is about. It is a hint to read, and never the truth."""

import hmac
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Literal

from models.crypto.secrets import Secret
from models.http import read_object
from models.paging.json_path import look_up

Algorithm = Literal["sha1", "sha256", "sha512"]
longest_account = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """What a profile's table `[webhook]` says.

    account: the dotted path to the account's id in the body.
    signature_header: the header with the signature; if it is empty, only the secret of the URL is checked.
    algorithm: the hash of the HMAC.
    encoding: how the signature is written.
    prefix: what comes before it in the header, such as `sha256=`.
    signed: what is signed: a text with `{body}` in it, and `{timestamp}` if there is one.
    timestamp_header: the header with the time of sending, in seconds since 1970; if it is empty, there is none.
    tolerance_seconds: how far that may be from our time. Without a time, for how long the same body counts as the same
        delivery.
    """

    account: str
    signature_header: str = ""
    algorithm: Algorithm = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""
    signed: str = "{body}"
    timestamp_header: str = ""
    tolerance_seconds: int = 300


@dataclass(frozen=True, slots=True)
class HookSecrets:
    """What opens a provider's webhook: the last part of its URL, and the key of its signatures."""

    path: Secret
    key: Secret | None = None


def find_hook_faults(hook: Hook) -> Iterator[tuple[str, str]]:
    """Yield in which of its fields a profile's webhook contradicts itself, and what is expected there."""
    if hook.signed.count("{body}") != 1 or ("{timestamp}" in hook.signed) != bool(hook.timestamp_header):
        yield "signed", "expected a text with {body}, and with {timestamp} if timestamp_header is set, and only then"
    if hook.timestamp_header and not hook.signature_header:
        yield "timestamp_header", "expected a signature_header beside it"


def is_signed(hook: Hook, key: Secret | None, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
    """Return whether the provider signed this body with the key, and lately if it says when.

    The names of `headers` are in small letters.
    """
    if not hook.signature_header:
        return True
    given = _read_signature(hook, headers.get(hook.signature_header.lower(), ""))
    if key is None or given is None:
        return False
    timestamp = headers.get(hook.timestamp_header.lower(), "") if hook.timestamp_header else ""
    if hook.timestamp_header and not _is_recent(timestamp, hook, now):
        return False
    # The body comes last: what it has in braces is its own.
    before, after = hook.signed.replace("{timestamp}", timestamp).encode().split(b"{body}")
    expected = hmac.digest(key.reveal().encode(), before + body + after, hook.algorithm)
    return hmac.compare_digest(expected, given)


def name_delivery(provider: str, hook: Hook, headers: Mapping[str, str], body: bytes) -> bytes | None:
    """Return one name for a signed delivery however often it comes; None if only the secret of the URL vouches for it.

    What is not signed makes no other delivery of it: in which letters its signature is written, for example.
    """
    if not hook.signature_header:
        return None
    timestamp = headers.get(hook.timestamp_header.lower(), "") if hook.timestamp_header else ""
    return sha256(f"{provider}\0{timestamp}\0".encode() + body).digest()


def repeats_within(hook: Hook) -> timedelta:
    """Return for how long a delivery that comes again is a repeat.

    Afterwards its time is too old, by a clock that may have been ahead of ours. Without a time the same body may be
    about something new: many providers say only which account to look at.
    """
    return timedelta(seconds=hook.tolerance_seconds) * (2 if hook.timestamp_header else 1)


def find_account(hook: Hook, body: bytes) -> str | None:
    """Return the id of the account that a body is about; None if it names none."""
    found = look_up(read_object(body), hook.account)
    if isinstance(found, bool) or not isinstance(found, str | int):
        return None
    text = str(found)
    return text if 1 <= len(text) <= longest_account and text.isprintable() else None


def _read_signature(hook: Hook, text: str) -> bytes | None:
    text = text.strip()
    if not text.startswith(hook.prefix):
        return None
    try:
        encoded = text.removeprefix(hook.prefix)
        return bytes.fromhex(encoded) if hook.encoding == "hex" else b64decode(encoded, validate=True)
    except ValueError:
        return None


def _is_recent(timestamp: str, hook: Hook, now: datetime) -> bool:
    if not re.fullmatch(r"[0-9]{1,12}", timestamp):
        return False
    return abs(now.timestamp() - int(timestamp)) <= timedelta(seconds=hook.tolerance_seconds).total_seconds()
