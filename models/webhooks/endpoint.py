"""A webhook's endpoint: where events of some types are sent, and how well that works."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from models.backoff import Backoff
from models.crypto.secrets import Sealed
from models.webhooks.outcome import Away, Delivered, Gone, Outcome, describe

name_pattern = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
overlap = timedelta(hours=24)
"""For how long the secret before a change signs as well."""
patience = 3
"""So many rounds of deliveries in a row without any answer, and an endpoint counts as away."""
pauses = Backoff.of_seconds(5, 30, 60, 300)
"""How long an endpoint that is away is left alone. Then one delivery finds out whether it is back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An endpoint of the application.

    types: which events it hears of, as `wants` reads them.
    allow_private: whether it may be in a private network, and speak http.
    secret, previous_secret: what signs; the latter, until `previous_until`, as well.
    paused_at: since when nothing is sent, by an operator's word or because it answered 410 (`is_gone`).
    failures: rounds of deliveries in a row that got no answer at all.
    failing_since: since when no delivery succeeded.
    retry_at: when one that is away is asked again.
    delivered_at: when a delivery succeeded last.
    error: how the last delivery failed; None if it did not.
    """

    id: str
    name: str
    url: str
    types: tuple[str, ...]
    secret: Sealed
    created_at: datetime
    allow_private: bool = False
    previous_secret: Sealed | None = None
    previous_until: datetime | None = None
    paused_at: datetime | None = None
    is_gone: bool = False
    failures: int = 0
    failing_since: datetime | None = None
    retry_at: datetime | None = None
    delivered_at: datetime | None = None
    error: str | None = None

    def wants(self, type_: str) -> bool:
        """Return whether it hears of events of this type."""
        return wants(self.types, type_)

    @property
    def is_away(self) -> bool:
        """Whether it has answered nothing for so long that only one delivery is tried at a time."""
        return self.failures >= patience

    @property
    def state(self) -> str:
        """What an operator reads."""
        if self.is_gone:
            return "gone"
        if self.paused_at is not None:
            return "paused"
        return "failing" if self.failing_since is not None else "active"

    def is_ready(self, now: datetime) -> bool:
        """Return whether anything may be sent now."""
        return self.paused_at is None and (self.retry_at is None or self.retry_at <= now)

    def secrets_at(self, now: datetime) -> Sequence[tuple[str, Sealed]]:
        """Return what signs now, each with its field, the newest first."""
        before = self.previous_secret
        if before is None or self.previous_until is None or self.previous_until <= now:
            return [("secret", self.secret)]
        return [("secret", self.secret), ("previous_secret", before)]


def wants(types: Iterable[str], type_: str) -> bool:
    """Return whether a type is one of these: by its name, by how it begins (`connection`), or by a pattern with `*`."""
    return any(
        type_ == each or type_.startswith(f"{each}.") or ("*" in each and _matches(each, type_)) for each in types
    )


def _matches(pattern: str, type_: str) -> bool:
    return bool(re.fullmatch(r"[a-z_.*]+", pattern)) and fnmatchcase(type_, pattern)


def find_unknown(types: Iterable[str], known: Collection[str]) -> list[str]:
    """Return those that no event has."""
    return [each for each in types if not any(wants((each,), type_) for type_ in known)]


def rotate(endpoint: Endpoint, secret: Sealed, previous: Sealed, now: datetime, length: timedelta) -> Endpoint:
    """Return it with a new secret; the one before, sealed for its new place, signs as well for that long."""
    return replace(endpoint, secret=secret, previous_secret=previous, previous_until=now + length)


def pause(endpoint: Endpoint, now: datetime) -> Endpoint:
    return endpoint if endpoint.paused_at is not None else replace(endpoint, paused_at=now)


def resume(endpoint: Endpoint) -> Endpoint:
    """Return it as if nothing had failed: what waits is sent at once."""
    return replace(endpoint, paused_at=None, is_gone=False, failures=0, failing_since=None, retry_at=None, error=None)


def ask_now(endpoint: Endpoint) -> Endpoint:
    """Return it as one that may be sent something now; one that is away is still sent one delivery at a time."""
    return replace(endpoint, retry_at=None)


def retry(endpoint: Endpoint) -> Endpoint:
    """Return it as one that was never away: all that waits is tried at once. It has failed since when it did."""
    return replace(endpoint, failures=0, retry_at=None)


def note(endpoint: Endpoint, outcomes: Sequence[Outcome], now: datetime) -> Endpoint:
    """Return it after deliveries that were made together.

    An answer of any kind shows that it is there, and what it says is that event's matter. Only without any is the whole
    endpoint left alone for a while, so that its deliveries don't wait for it one by one.
    """
    for outcome in outcomes:
        endpoint = _note_one(endpoint, outcome, now)
    if any(not isinstance(each, Away) for each in outcomes):
        return replace(endpoint, failures=0, retry_at=None)
    endpoint = replace(endpoint, failures=endpoint.failures + 1)
    if not endpoint.is_away:
        return endpoint
    asked_for = [each.retry_after for each in outcomes if isinstance(each, Away) and each.retry_after is not None]
    return replace(endpoint, retry_at=now + max([pauses.after(endpoint.failures - patience + 1), *asked_for]))


def _note_one(endpoint: Endpoint, outcome: Outcome, now: datetime) -> Endpoint:
    match outcome:
        case Delivered():
            return replace(endpoint, failing_since=None, delivered_at=now, error=None)
        case Gone():
            return replace(endpoint, paused_at=endpoint.paused_at or now, is_gone=True, error=describe(outcome))
        case _:
            return replace(endpoint, failing_since=endpoint.failing_since or now, error=describe(outcome))
