"""Signatures of Standard Webhooks (version 1): HMAC-SHA256 over the event's id, the time and the body.

Ten lines of the standard library; the tests verify them with the reference library.
"""

import hmac
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime

from models.crypto.secrets import Secret

prefix = "whsec_"
secret_bytes = 32


def make_secret() -> Secret:
    """Return a new secret, as an application's library takes it."""
    return Secret(prefix + b64encode(secrets.token_bytes(secret_bytes)).decode())


def sign(event_id: str, body: str, secret_list: Sequence[Secret], now: datetime) -> Mapping[str, str]:
    """Return the headers that go with the body: a signature by each secret, of which one verifies."""
    timestamp = str(int(now.timestamp()))
    signed = f"{event_id}.{timestamp}.{body}".encode()
    signatures = [f"v1,{b64encode(_digest(each, signed)).decode()}" for each in secret_list]
    return {"webhook-id": event_id, "webhook-timestamp": timestamp, "webhook-signature": " ".join(signatures)}


def _digest(secret: Secret, signed: bytes) -> bytes:
    return hmac.digest(b64decode(secret.reveal().removeprefix(prefix)), signed, "sha256")
