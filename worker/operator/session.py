"""A session of the operator's page: derived from OPERATOR_TOKEN, so another token ends every session."""

import hmac
from datetime import datetime, timedelta
from hashlib import sha256

from models.crypto.secrets import Secret

lifetime = timedelta(hours=12)
longest_value = 200


def is_token(token: Secret, given: str) -> bool:
    """Return whether this is the operator's token, in a time that does not depend on how much of it is right."""
    return hmac.compare_digest(_sign(token, "token", token.reveal()), _sign(token, "token", given))


def make_session(token: Secret, nonce: str, now: datetime) -> str:
    """Return the cookie's value: when it ends, a random part without dots, and the proof of both."""
    content = f"{int((now + lifetime).timestamp())}.{nonce}"
    return f"{content}.{_sign(token, 'session', content)}"


def is_session(token: Secret, value: str, now: datetime) -> bool:
    """Return whether this value was made with this token and has not ended."""
    content, dot, proof = value.rpartition(".")
    if not dot or len(value) > longest_value or not value.isascii():
        return False
    if not hmac.compare_digest(_sign(token, "session", content), proof):
        return False
    return int(content.partition(".")[0]) > now.timestamp()


def form_token_of(token: Secret, session: str) -> str:
    """Return what every form of this session carries, which no other site can know."""
    return _sign(token, "form", session)


def _sign(token: Secret, purpose: str, content: str) -> str:
    key = hmac.digest(token.reveal().encode(), f"breezesync operator {purpose}".encode(), "sha256")
    return hmac.new(key, content.encode(), sha256).hexdigest()
