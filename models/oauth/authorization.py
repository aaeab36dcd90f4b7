"""A pending authorization: its state, PKCE verifier and browser, used once and only in time."""

import hashlib
from base64 import urlsafe_b64encode
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from models.crypto.secrets import Sealed
from models.messaging.events import About

lifetime = timedelta(minutes=10)
code_lifetime = timedelta(minutes=10)
give_up_after = timedelta(hours=24)
exchange_lease = timedelta(seconds=60)


class Step(StrEnum):
    """How far an authorization has come.

    started (redirected to the provider) → received (code stored) → granted (tokens stored, account not yet
    known) → connected; or denied, or failed.
    """

    started = "started"
    received = "received"
    granted = "granted"
    connected = "connected"
    denied = "denied"
    failed = "failed"


open_steps = (Step.started, Step.received, Step.granted)


@dataclass(frozen=True, slots=True)
class Authorization:
    """One try at connecting. Hashes stand where only equality is asked; verifier, code and tokens are sealed."""

    id: str
    provider: str
    client_id: str
    user_id: str
    redirect_uri: str
    step: Step
    state_hash: str
    browser_hash: str
    created_at: datetime
    expires_at: datetime
    verifier: Sealed | None = None
    code: Sealed | None = None
    tokens: Sealed | None = None
    return_to: str | None = None
    team_ids: tuple[int, ...] = ()
    target_connection_id: str | None = None
    code_received_at: datetime | None = None
    due_at: datetime | None = None
    lease_owner: str | None = None
    lease_until: datetime | None = None
    presented_at: datetime | None = None
    attempts: int = 0
    reason: str | None = None
    description: str | None = None
    connection_id: str | None = None

    @property
    def about(self) -> About:
        return About(self.provider, self.user_id, other_subject=f"authorization/{self.id}")


def is_put_off(authorization: Authorization, now: datetime) -> bool:
    """Whether it waits for its time: an answer that is still to come, or a provider that is busy.

    A code that has just come is due at once, however the clocks of two machines differ.
    """
    due = authorization.due_at
    return due is not None and due > now and due != authorization.code_received_at


def end(authorization: Authorization, step: Step) -> Authorization:
    """Over, one way or the other: no secret stays, and nothing is due."""
    return replace(
        authorization,
        step=step,
        code=None,
        verifier=None,
        tokens=None,
        due_at=None,
        lease_owner=None,
        lease_until=None,
    )


def hash_of(value: str) -> str:
    """SHA-256 in hex: what stands in the database for a state, a browser binding or a link's `jti`."""
    return hashlib.sha256(value.encode()).hexdigest()


def challenge_of(verifier: str) -> str:
    """The S256 code challenge (RFC 7636 §4.2)."""
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def answer_for_page(authorization: Authorization) -> dict[str, str | None]:
    """What the result page and its JSON form tell: status, reason and connection."""
    status = authorization.step.value if authorization.step not in open_steps else "pending"
    return {
        "status": status,
        "reason": authorization.reason,
        "connection_id": authorization.connection_id,
    }
