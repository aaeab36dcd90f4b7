"""When the next refresh is due: weeks ahead for a long-lived pair, a share of the life for a short one.

Access and refresh token may die together (Passport issues both for a year), so waiting for the access token's
end loses the user. The lead is spread by up to half of itself, so that tokens issued together part ways.
"""

import hashlib
from datetime import datetime, timedelta

longest_lead = timedelta(days=28)
share_of_life = 0.2
spread_of_lead = 0.5
client_pauses = tuple(timedelta(seconds=s) for s in (30, 60, 300, 900))
throttled_pause = timedelta(minutes=1)
retry_delays = tuple(timedelta(seconds=s) for s in (5, 30, 120, 600, 1800, 3600))


def spread(connection_id: str, generation: int) -> float:
    """A number in [0, 1) that stays the same for one token and is spread evenly over many."""
    digest = hashlib.sha256(f"{connection_id}:{generation}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


def refresh_due_at(issued_at: datetime, expires_in: timedelta | None, position: float) -> datetime | None:
    """The time at which a pair issued at `issued_at` should be refreshed; `position` in [0, 1) is its spread.

    None where the provider names no expiry (RFC 6749 §5.1): then only a 401 tells.
    """
    if expires_in is None:
        return None
    lead = min(expires_in * share_of_life, longest_lead)
    return issued_at + expires_in - lead * (1 + spread_of_lead * position)


def retry_at(now: datetime, failures: int, expires_at: datetime | None) -> datetime:
    """When to try again after the `failures`th failure in a row that spent nothing; sooner where the end is near."""
    delay = retry_delays[min(max(failures, 1), len(retry_delays)) - 1]
    if expires_at is not None and expires_at > now:
        delay = min(delay, max((expires_at - now) / 4, retry_delays[0]))
    return now + delay


def asked_for(retry_after: timedelta | None) -> timedelta | None:
    """How long the provider wants to be left alone, None where it does not say: no time at all is no answer, and
    neither is a moment that is past."""
    return max(retry_after, retry_delays[0]) if retry_after else None


def client_pause(probes: int) -> timedelta:
    """How long a refused client rests after `probes` requests of its have tried in vain; longer each time."""
    return client_pauses[min(probes, len(client_pauses) - 1)]


def probe_again_at(paused_until: datetime, now: datetime, failures: int, expires_at: datetime | None) -> datetime:
    """When the connection that found its client refused is due again: after the pause, and after those that wait.

    Where only this one connection meets the refusal, it must not pause the others every half minute.
    """
    return max(paused_until, min(retry_at(now, failures, expires_at), now + client_pauses[-1]))
