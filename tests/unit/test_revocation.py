"""When a revocation is tried, and how it ends."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from models.crypto.secrets import Sealed
from models.journal import Verb
from models.messaging.events import ConnectionDisconnected
from models.oauth.revocation import Revocation, RevocationEnd, begin_attempt, decide_end

now = datetime(2026, 11, 24, 12, tzinfo=UTC)
second = timedelta(seconds=1)
hour = timedelta(hours=1)
first = Revocation("r1", "breezedoc", "client", Sealed("v1.k.t"), now, now, connection_id="c1", tells=True)
silent = replace(first, tells=False)

attempts: dict[str, tuple[Revocation, Revocation | None]] = {
    "the first": (first, replace(first, attempts=1, due_at=now + 30 * second)),
    "the second": (replace(first, attempts=1), replace(first, attempts=2, due_at=now + 60 * second)),
    "the tenth": (replace(first, attempts=9), replace(first, attempts=10, due_at=now + hour)),
    "one under way": (replace(first, due_at=now + second), None),
}


@pytest.mark.parametrize("case", attempts)
def test_an_attempt_begins_when_it_is_due_and_each_pause_is_longer(case: str) -> None:
    revocation, expected = attempts[case]
    assert begin_attempt(revocation, now) == expected


ends: dict[str, tuple[Revocation, bool, datetime, RevocationEnd | None]] = {
    "confirmed": (first, True, now, RevocationEnd((ConnectionDisconnected(True),), Verb.revoked_upstream)),
    "confirmed, no event": (silent, True, now, RevocationEnd((), Verb.revoked_upstream)),
    "not confirmed": (first, False, now + 24 * hour - second, None),
    "not confirmed for a day": (
        first,
        False,
        now + 24 * hour,
        RevocationEnd((ConnectionDisconnected(False),), Verb.revoked_upstream_unconfirmed),
    ),
    "not confirmed for a day, no event": (
        silent,
        False,
        now + 24 * hour,
        RevocationEnd((), Verb.revoked_upstream_unconfirmed),
    ),
}


@pytest.mark.parametrize("case", ends)
def test_a_revocation_ends_when_it_is_confirmed_or_after_a_day(case: str) -> None:
    revocation, confirmed, at, expected = ends[case]
    assert decide_end(revocation, confirmed, at) == expected
