"""Every transition of a connection: what it changes, what it leaves alone, and what it tells."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from models.messaging.events import (
    AccessLimited,
    AccessRestored,
    ConnectionAuthorized,
    ConnectionDisconnected,
    ConnectionRefreshed,
    ReauthorizationRequired,
)
from models.oauth.connection import (
    Connection,
    DisconnectPlan,
    DisconnectRequest,
    NewPair,
    Status,
    authorize,
    clocks_differ,
    disconnect,
    is_superseded,
    limit_access,
    may_hold,
    newest_disconnect,
    plan_disconnect,
    refresh,
    restore_access,
    revoke,
)
from models.oauth.refresh_policy import refresh_due_at, spread

now = datetime(2026, 11, 24, 12, tzinfo=UTC)
hour = timedelta(hours=1)
year = timedelta(days=365)

new = Connection("c1", "ada", "breezedoc", "client", "1", Status.active, created_at=now)
active = replace(
    new,
    email="ada@example.com",
    scope="read",
    team_ids=(7,),
    generation=3,
    expires_at=now + hour,
    refresh_due_at=now + hour / 2,
    sync_due_at=now + hour,
    sync_requested=True,
)
revoked = revoke(active, "access_revoked", "api", now, "/auth/breezedoc")[0]
lost = revoke(active, "rotation_lost", "refresh", now, "/auth/breezedoc")[0]
disconnected = disconnect(active, now, told_later=False)[0]
pair = NewPair(now + hour, year, "read write")


def due(generation: int) -> datetime | None:
    return refresh_due_at(pair.issued_at, year, spread("c1", generation))


def test_a_first_authorization_begins_at_generation_one_and_is_to_be_synced_at_once() -> None:
    after, facts = authorize(new, pair, "client", "ada@example.com", (7,), reauthorized=False)
    assert after == replace(
        new,
        email="ada@example.com",
        scope="read write",
        team_ids=(7,),
        generation=1,
        expires_at=now + hour + year,
        refresh_due_at=due(1),
        sync_due_at=now + hour,
    )
    assert facts == (ConnectionAuthorized("1", "ada@example.com", "read write", now + hour + year, False),)


@pytest.mark.parametrize("before", [active, revoked, lost, disconnected], ids=["active", "revoked", "lost", "gone"])
def test_a_new_authorization_revives_any_connection_and_keeps_what_it_was_not_told(before: Connection) -> None:
    after, facts = authorize(before, pair, "another client", None, (), reauthorized=True)
    assert (after.status, after.revoked_at, after.revoked_reason) == (Status.active, None, None)
    assert (after.client_id, after.email, after.team_ids) == ("another client", "ada@example.com", (7,))
    assert (after.generation, after.refresh_due_at, after.sync_due_at) == (4, due(4), now + hour)
    assert facts == (ConnectionAuthorized("1", "ada@example.com", "read write", now + hour + year, True),)


def test_a_pair_without_expiry_is_never_due() -> None:
    after, _ = refresh(active, NewPair(now, None, None))
    assert (after.expires_at, after.refresh_due_at) == (None, None)


def test_a_refresh_counts_a_generation_and_keeps_the_scope_that_was_not_sent_again() -> None:
    after, facts = refresh(replace(active, problem="refresh_failing"), NewPair(now, year, None))
    assert after == replace(
        active,
        generation=4,
        expires_at=now + year,
        refresh_due_at=refresh_due_at(now, year, spread("c1", 4)),
        problem=None,
    )
    assert facts == (ConnectionRefreshed(4, now + year),)


def test_a_refresh_does_not_hide_that_the_plan_is_missing() -> None:
    limited, _ = limit_access(active)
    assert refresh(limited, pair)[0].problem == "plan_required"


def test_a_pair_that_comes_late_revives_what_was_given_up_as_lost() -> None:
    after, facts = refresh(lost, pair)
    assert (after.status, after.revoked_at, after.revoked_reason) == (Status.active, None, None)
    assert (after.generation, after.sync_due_at) == (4, now + hour)
    assert facts == (ConnectionAuthorized("1", "ada@example.com", "read write", now + hour + year, True),)


holders = {
    "the current generation": (active, 3, True),
    "an older generation": (active, 2, False),
    "a generation yet to come": (active, 4, False),
    "given up as lost": (lost, 3, True),
    "given up as lost, but older": (lost, 2, False),
    "revoked by the user": (revoked, 3, False),
    "refused": (replace(revoked, revoked_reason="refresh_rejected"), 3, False),
    "expired": (replace(revoked, revoked_reason="refresh_expired"), 3, False),
    "disconnected": (disconnected, 3, False),
    "disconnected after it was lost": (disconnect(lost, now, told_later=False)[0], 3, False),
}


@pytest.mark.parametrize("case", holders)
def test_a_late_pair_is_kept_only_where_it_is_the_newest_truth(case: str) -> None:
    connection, generation, expected = holders[case]
    assert may_hold(connection, generation) is expected


@pytest.mark.parametrize("reason", ["access_revoked", "refresh_rejected", "refresh_expired", "rotation_lost"])
def test_a_revocation_stops_all_work_and_is_told_once(reason: str) -> None:
    once, facts = revoke(
        replace(active, problem="refresh_failing"),
        reason,  # type: ignore[arg-type]  # parametrize knows texts only
        "refresh",
        now,
        "/auth/breezedoc",
    )
    assert once == replace(
        active,
        status=Status.revoked,
        revoked_at=now,
        revoked_reason=reason,
        refresh_due_at=None,
        sync_due_at=None,
        sync_requested=False,
    )
    assert facts == (ReauthorizationRequired(reason, "refresh", "/auth/breezedoc"),)  # type: ignore[arg-type]
    assert revoke(once, "access_revoked", "api", now + hour, "/auth/breezedoc") == (once, ())


def test_what_was_disconnected_is_not_revoked_any_more() -> None:
    assert revoke(disconnected, "access_revoked", "api", now, "/") == (disconnected, ())


@pytest.mark.parametrize("before", [active, revoked], ids=["active", "revoked"])
def test_a_disconnect_stops_all_work_and_is_told_once(before: Connection) -> None:
    once, facts = disconnect(before, now + hour, told_later=False)
    assert (once.status, once.revoked_at, once.revoked_reason) == (Status.disconnected, now + hour, None)
    assert (once.refresh_due_at, once.sync_due_at, once.sync_requested) == (None, None, False)
    assert facts == (ConnectionDisconnected(False),)
    assert disconnect(before, now + hour, told_later=True) == (once, ())
    assert disconnect(once, now + 2 * hour, told_later=False) == (once, ())


requests: dict[str, tuple[datetime, datetime | None, bool]] = {
    "no one ever authorized": (now, None, False),
    "long after it": (now + hour, now, False),
    "at the same moment": (now, now, False),
    "half a minute before it": (now - clocks_differ, now, False),
    "a little longer before it": (now - clocks_differ - timedelta(milliseconds=1), now, True),
    "weeks before it": (now - 500 * hour, now, True),
}


@pytest.mark.parametrize("case", requests)
def test_a_disconnect_counts_unless_the_user_authorized_after_it_by_any_clock(case: str) -> None:
    asked_at, authorized_at, expected = requests[case]
    assert is_superseded(asked_at, authorized_at) is expected


plans: dict[str, tuple[Connection, datetime | None, datetime | None, DisconnectPlan]] = {
    "carried out before": (active, None, now, DisconnectPlan.nothing),
    "asked for now": (active, now, now, DisconnectPlan.end),
    "asked for now, by a clock behind": (active, now, now + hour, DisconnectPlan.end),
    "asked for before the user authorized": (active, now - hour, now - hour / 2, DisconnectPlan.superseded),
    "asked for after the user authorized": (active, now - hour, now - 2 * hour, DisconnectPlan.end),
    "of a revoked connection": (revoked, now, None, DisconnectPlan.end),
    "once more": (disconnected, now, None, DisconnectPlan.repeated),
}


@pytest.mark.parametrize("case", plans)
def test_a_disconnect_is_carried_out_once_unless_it_is_superseded(case: str) -> None:
    connection, asked_at, authorized_at, expected = plans[case]
    assert plan_disconnect(connection, asked_at, authorized_at, now) is expected


pending: dict[str, tuple[DisconnectRequest | None, DisconnectRequest, DisconnectRequest]] = {
    "the first": (None, DisconnectRequest(now, False), DisconnectRequest(now, False)),
    "the first, which is superseded": (None, DisconnectRequest(now - hour, True), DisconnectRequest(now - hour, True)),
    "the same one": (DisconnectRequest(now, True), DisconnectRequest(now, True), DisconnectRequest(now, True)),
    "a newer one": (
        DisconnectRequest(now, False),
        DisconnectRequest(now + hour, True),
        DisconnectRequest(now + hour, True),
    ),
    "an older one": (DisconnectRequest(now, True), DisconnectRequest(now - hour, False), DisconnectRequest(now, True)),
    "an older one that erases": (
        DisconnectRequest(now, False),
        DisconnectRequest(now - hour / 4, True),
        DisconnectRequest(now, True),
    ),
    "a newer one that does not erase": (
        DisconnectRequest(now - hour / 4, True),
        DisconnectRequest(now, False),
        DisconnectRequest(now, True),
    ),
    "after one that is superseded": (
        DisconnectRequest(now - hour, True),
        DisconnectRequest(now, False),
        DisconnectRequest(now, False),
    ),
    "an older one that is superseded": (
        DisconnectRequest(now, False),
        DisconnectRequest(now - hour, True),
        DisconnectRequest(now, False),
    ),
    "one of the same moment, both superseded": (
        DisconnectRequest(now - hour, True),
        DisconnectRequest(now - hour, False),
        DisconnectRequest(now - hour, True),
    ),
    "both superseded": (
        DisconnectRequest(now - 2 * hour, True),
        DisconnectRequest(now - hour, False),
        DisconnectRequest(now - hour, False),
    ),
}


@pytest.mark.parametrize("case", pending)
def test_of_two_disconnects_the_newest_counts_and_either_erases_unless_it_is_superseded(case: str) -> None:
    before, asked, expected = pending[case]
    assert newest_disconnect(before, asked, authorized_at=now - hour / 2) == expected


@pytest.mark.parametrize("erases", [True, False])
def test_of_two_disconnects_either_erases_if_no_one_ever_authorized(erases: bool) -> None:
    asked = [DisconnectRequest(now - hour, erases), DisconnectRequest(now, not erases)]
    assert newest_disconnect(asked[0], asked[1], None) == DisconnectRequest(now, True)


def test_a_missing_plan_is_told_once_and_so_is_its_return() -> None:
    limited, first = limit_access(active)
    assert limited == replace(active, access_limited=True, problem="plan_required")
    assert first == (AccessLimited(),)
    assert limit_access(limited) == (limited, ())
    restored, second = restore_access(limited)
    assert (restored, second) == (active, (AccessRestored(),))
    assert restore_access(restored) == (restored, ())
