"""When a refresh is due, how long its request and its lease last, and how long it waits after a failure.

A long-lived pair is refreshed weeks ahead of its end, a short-lived one a share of its life ahead. Access and refresh
token may expire together (Passport issues both for a year), so waiting for the access token's end loses the user. The
lead is spread by up to half of itself, so that tokens issued together are not refreshed together.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from models.backoff import Backoff
from models.provider import Provider

longest_lead = timedelta(days=28)
share_of_life = 0.2
spread_of_lead = 0.5
throttled_pause = timedelta(minutes=1)
retries = Backoff.of_seconds(5, 30, 120, 600, 1800, 3600)
longest_trial = timedelta(minutes=15)
shortest_deadline = timedelta(seconds=5)
shortest_life = timedelta(seconds=5)
"""No one can work with tokens that live for less: what says so is a mistake, and is not followed."""
shortest_interval = timedelta(minutes=1)
"""How often a pair is refreshed whose life is not credible."""
pause_between_requests = timedelta(minutes=1)
"""How long after a requested refresh another request for the same connection changes nothing."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a token request may take, and how long no one else touches its connection.

    `deadline` ends a request, however slowly its answer drips. `lease` is longer by the time that a request may take to
    leave and by what the clocks of two machines may differ. `settle` after a request was sent the provider must be done
    with it, even if we gave up on it: a probe before that proves nothing.
    """

    deadline: timedelta = timedelta(seconds=20)
    lease: timedelta = timedelta(seconds=30)
    settle: timedelta = timedelta(seconds=60)


def patience_with(provider: Provider, usual: Patience) -> Patience:
    """Return the usual patience; if a second try has only a grace, wait for two thirds of it at most."""
    if provider.refresh_reuse != "grace":
        return usual
    third = timedelta(seconds=provider.grace_seconds) / 3
    deadline = min(usual.deadline, max(third, shortest_deadline))
    lease = deadline + min(usual.lease - usual.deadline, deadline)
    return Patience(deadline, lease, min(usual.settle, max(third * 2, lease)))


def spread(connection_id: str, generation: int) -> float:
    """Return a number in [0, 1) that stays the same for one token and is spread evenly over many."""
    digest = hashlib.sha256(f"{connection_id}:{generation}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


def refresh_due_at(issued_at: datetime, expires_in: timedelta | None, position: float) -> datetime | None:
    """Return when a pair issued at `issued_at` should be refreshed; `position` in [0, 1) is its spread.

    None if the provider names no expiry (RFC 6749 §5.1): then only a 401 shows that the token has expired.
    """
    if expires_in is None:
        return None
    lead = min(expires_in * share_of_life, longest_lead)
    if expires_in < shortest_life:
        return issued_at + shortest_interval
    return issued_at + expires_in - lead * (1 + spread_of_lead * position)


def retry_at(now: datetime, failures: int, expires_at: datetime | None) -> datetime:
    """Return when to try again after the `failures`th failure in a row; sooner if the token is about to expire."""
    delay = retries.after(failures)
    if expires_at is not None and expires_at > now:
        delay = min(delay, max((expires_at - now) / 4, retries.first))
    return now + delay


def accepts_request(last_asked_at: datetime | None, now: datetime) -> bool:
    """Whether a refresh that is asked for now is made due: each connection accepts one request a minute.

    A request from the future was made by a clock that was ahead: it keeps no one waiting.
    """
    return last_asked_at is None or not timedelta() <= now - last_asked_at < pause_between_requests


def asked_for(retry_after: timedelta | None) -> timedelta | None:
    """Return how long the provider asks us to wait, or None if it does not say: neither zero nor a time in the past is
    an answer."""
    return max(retry_after, retries.first) if retry_after else None


def present_again_at(next_probe_at: datetime, now: datetime, failures: int, expires_at: datetime | None) -> datetime:
    """Return when the connection that found its client rejected is due again: after the probe, and after the others.

    If only this one connection is refused, it must not pause the others every half minute.
    """
    return max(next_probe_at, min(retry_at(now, failures, expires_at), now + longest_trial))
