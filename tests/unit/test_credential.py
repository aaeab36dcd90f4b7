"""What a refresh job may do, which 401 forces a refresh, and what a presentation leaves in the row."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from models.crypto.secrets import Sealed
from models.oauth.connection import Connection, Status
from models.oauth.credential import (
    Credential,
    Leave,
    Present,
    RefreshPlan,
    Resolve,
    accept_access,
    asks_for_refresh,
    lease,
    pause_between_forced,
    plan_refresh,
    present,
    refuse_access,
    withdraw_presentation,
)

now = datetime(2026, 11, 24, 12, tzinfo=UTC)
second = timedelta(seconds=1)
settle = timedelta(seconds=60)

connection = Connection(
    "c1", "ada", "breezedoc", "client", "1", Status.active, created_at=now, generation=3, refresh_due_at=now
)
idle = Credential("c1", Sealed("v1.k.a"), Sealed("v1.k.r"))
presented = replace(idle, presented_at=now - second, presented_generation=3, presentations=1)

plans: dict[str, tuple[Connection, Credential | None, RefreshPlan]] = {
    "due": (connection, idle, Present()),
    "overdue": (replace(connection, refresh_due_at=now - settle), idle, Present()),
    "not due yet": (replace(connection, refresh_due_at=now + second), idle, Leave("not due", now + second)),
    "never due": (replace(connection, refresh_due_at=None), idle, Leave("not due")),
    "revoked": (replace(connection, status=Status.revoked), idle, Leave("connection is revoked")),
    "disconnected": (replace(connection, status=Status.disconnected), idle, Leave("connection is disconnected")),
    "no credential": (connection, None, Leave("no refresh token")),
    "no refresh token": (connection, replace(idle, refresh_token=None), Leave("no refresh token")),
    "leased by another": (
        connection,
        replace(idle, lease_owner="w", lease_until=now + second),
        Leave("another worker holds the lease", now + second),
    ),
    "leased, presented and not due": (
        replace(connection, refresh_due_at=None),
        replace(presented, lease_owner="w", lease_until=now + second),
        Leave("another worker holds the lease", now + second),
    ),
    "a lease that ends now": (connection, replace(idle, lease_owner="w", lease_until=now), Present()),
    "presented, never heard back": (connection, presented, Resolve(now - second + settle)),
    "presented in an earlier generation": (connection, replace(presented, presented_generation=2), Present()),
    "presented twice": (connection, replace(presented, presentations=2), Resolve(now - second + settle)),
}


@pytest.mark.parametrize("case", plans)
def test_a_refresh_token_is_presented_only_when_due_free_and_surely_unspent(case: str) -> None:
    its_connection, credential, expected = plans[case]
    assert plan_refresh(its_connection, credential, now, settle) == expected


refusals: dict[str, tuple[Credential, int, bool]] = {
    "the current token, for the first time": (idle, 3, True),
    "a token rotated meanwhile": (idle, 2, False),
    "the current token, again": (replace(idle, refused_generation=3, refused_at=now - settle), 3, False),
    "the current token, again after a day": (
        replace(idle, refused_generation=3, refused_at=now - timedelta(days=1)),
        3,
        False,
    ),
    "the pair of a refresh forced a moment ago": (
        replace(idle, refused_generation=2, refused_at=now - pause_between_forced + second),
        3,
        False,
    ),
    "the pair of a refresh that was under way at the refusal": (replace(idle, refused_generation=2), 3, True),
    "the pair of a refresh forced long ago": (
        replace(idle, refused_generation=2, refused_at=now - pause_between_forced),
        3,
        True,
    ),
}


@pytest.mark.parametrize("case", refusals)
def test_only_a_401_for_the_current_token_forces_a_refresh_and_only_once(case: str) -> None:
    credential, generation, expected = refusals[case]
    assert asks_for_refresh(connection, credential, generation, now) is expected


refused = replace(idle, refused_generation=3)
presentations: dict[str, tuple[Credential, datetime | None]] = {
    "nothing was refused": (idle, None),
    "the current token was refused": (replace(refused, refused_at=now - settle), now - settle),
    "refused while another refresh was on its way": (refused, now),
    "an older token was refused": (replace(idle, refused_generation=2, refused_at=now - settle), now - settle),
    "an older token, another refresh on its way": (replace(idle, refused_generation=2), None),
}


@pytest.mark.parametrize("case", presentations)
def test_a_presentation_counts_as_forced_if_it_leaves_after_the_refusal(case: str) -> None:
    before, forced_at = presentations[case]
    after = present(replace(before, answered_at=now - second), 3, now)
    assert (after.presented_at, after.presented_generation, after.presentations) == (now, 3, 1)
    assert (after.answered_at, after.refused_at) == (None, forced_at)


def test_a_refusal_while_a_refresh_is_on_its_way_forces_the_next_one() -> None:
    assert refuse_access(presented, 3, now) == replace(presented, refused_generation=3, refused_at=None)
    assert refuse_access(idle, 3, now) == replace(idle, refused_generation=3, refused_at=now)
    assert accept_access(refuse_access(idle, 3, now)) == idle


def test_an_answer_that_spent_nothing_brings_the_note_of_an_earlier_presentation_back() -> None:
    for before in (idle, presented, replace(presented, answered_at=now)):
        shown = lease(present(before, 3, now), "worker", now + settle)
        assert withdraw_presentation(shown, before) == before
