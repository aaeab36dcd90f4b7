"""What happens next, for every state of a connection or an authorization: the times, commands and names in it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from models.crypto.secrets import Sealed
from models.oauth.authorization import Authorization, Confirmation, Step
from models.oauth.client import Cause, StoredClient
from models.oauth.connection import Connection, Status, personal_client
from models.oauth.credential import Credential
from models.oauth.token_rate_limit import Pace
from models.provider import Provider
from models.sync.sync_run import RunStatus, SyncLease, SyncRun
from worker.operations.next_steps import Outlook, describe_next, describe_next_of_authorization

now = datetime(2026, 11, 26, 12, tzinfo=UTC)
second, day = timedelta(seconds=1), timedelta(days=1)
fresh = Connection(
    "c1",
    "ada",
    "breezedoc",
    "client-1",
    "7",
    Status.active,
    now - day,
    generation=3,
    refresh_due_at=now + 300 * day,
    sync_due_at=now + 600 * second,
)
due = replace(fresh, refresh_due_at=now - second, sync_due_at=None)
held = Credential("c1", Sealed("v1.k.a"), Sealed("v1.k.r"))
shown = replace(held, presented_at=now - 20 * second, presented_generation=3, presentations=1)
profile = Provider(name="breezedoc", authorize_url="https://p/a", token_url="https://p/t", api_url="https://p/api")
harmless, grace = replace(profile, refresh_reuse="harmless"), replace(profile, refresh_reuse="grace", grace_seconds=90)
refused = StoredClient(
    "breezedoc",
    "client-1",
    cause=Cause.rejected,
    opened_at=now,
    error="invalid_client",
    next_probe_at=now + 30 * second,
)
run = SyncRun("r1", "c1", RunStatus.running, now)
lease = SyncLease("w", now + 25 * second, now + 25 * second)
again = ("authorize again", "breezesync connect-link ada --provider breezedoc --connection c1")
refresh_in_300_days = ("refresh", "at 2027-09-22 12:00:00 UTC, in 300 days")
sync_in_10_minutes = ("next sync", "at 2026-11-26 12:10:00 UTC, in 10 minutes")
refresh_is_due = ("refresh is due now",)
client = ("OAuth client client-1", "invalid_client")
presented = ("at 2026-11-26 11:59:40 UTC, 20 s ago", "no answer")
asked = ("the API is asked", "at 2026-11-26 12:00:40 UTC, in 40 seconds")

futures: dict[str, tuple[Connection, Outlook, list[tuple[str, ...]]]] = {
    "fresh": (fresh, Outlook(held, provider=profile), [refresh_in_300_days, sync_in_10_minutes]),
    "due": (due, Outlook(held, provider=profile), [refresh_is_due]),
    "no expiry": (
        replace(due, refresh_due_at=None),
        Outlook(held, provider=profile),
        [("no refresh is planned", "401")],
    ),
    "no refresh token": (
        replace(due, refresh_due_at=None),
        Outlook(replace(held, refresh_token=None), provider=profile),
        [("no refresh token", "authorize again")],
    ),
    "leased by a worker": (
        due,
        Outlook(replace(shown, lease_owner="w", lease_until=now + 25 * second), provider=profile),
        [("a worker", "at 2026-11-26 12:00:25 UTC, in 25 seconds")],
    ),
    "presented, no answer kept, reuse ends the family": (
        due,
        Outlook(shown, provider=profile),
        [presented, asked, ("lost", "authorize again")],
    ),
    "presented, no answer kept, reuse is harmless": (
        due,
        Outlook(shown, provider=harmless),
        [presented, asked, ("sent again", "harmless")],
    ),
    "presented, no answer kept, a grace": (
        due,
        Outlook(shown, provider=grace),
        [presented, asked, ("sent again", "within 90 s")],
    ),
    "presented, answered 503": (
        due,
        Outlook(replace(shown, answered_at=now - 19 * second), provider=profile),
        [("20 s ago", "503"), ("the API is asked", "now"), ("lost", "authorize again")],
    ),
    "presented in a generation that is past": (
        due,
        Outlook(replace(shown, presented_generation=2), provider=profile),
        [refresh_is_due],
    ),
    "its client rejected": (
        due,
        Outlook(held, refused, profile),
        [(*client, "no token is sent", "at 2026-11-26 12:00:30 UTC, in 30 seconds")],
    ),
    "its client rejected, and a probe due": (
        due,
        Outlook(held, replace(refused, next_probe_at=now), profile),
        [(*client, "a probe that spends nothing", "now")],
    ),
    "the token endpoint unavailable": (
        due,
        Outlook(held, replace(refused, cause=Cause.unavailable, error="http_502"), profile),
        [("no certain answer", "http_502", "no token is sent", "in 30 seconds")],
    ),
    "paused by an operator": (
        due,
        Outlook(held, replace(refused, paused_at=now), profile),
        [("an operator paused", "breezesync provider resume breezedoc")],
    ),
    "a 429 at the token endpoint": (
        due,
        Outlook(held, None, profile, Pace({}, now + 50 * second)),
        [("429", "at 2026-11-26 12:00:50 UTC, in 50 seconds")],
    ),
    "the rate limit reached": (
        due,
        Outlook(held, None, profile, Pace({int(now.timestamp()) - 12: 60})),
        [("rate limit", "at 2026-11-26 12:00:50 UTC, in 50 seconds")],
    ),
    "access limited by the plan": (
        replace(fresh, access_limited=True, problem="plan_required"),
        Outlook(held, None, profile),
        [refresh_in_300_days, sync_in_10_minutes, ("plan has API access",)],
    ),
    "a sync that waits, and another requested": (
        replace(fresh, sync_requested=True),
        Outlook(held, None, profile, run=replace(run, resume_at=now + 90 * second)),
        [refresh_in_300_days, ("sync continues", "at 2026-11-26 12:01:30 UTC, in 90 seconds"), ("another sync",)],
    ),
    "a sync that is not stored": (
        replace(due, sync_requested=True),
        Outlook(held, None, profile, lease=lease),
        [
            refresh_is_due,
            ("a worker is syncing it", "at 2026-11-26 12:00:25 UTC, in 25 seconds"),
            ("another sync",),
        ],
    ),
    "a sync whose worker died before it was stored": (
        replace(fresh, sync_requested=True),
        Outlook(held, None, profile, lease=replace(lease, until=now, claimed_until=now)),
        [refresh_in_300_days, sync_in_10_minutes],
    ),
    "a running sync": (due, Outlook(held, None, profile, run=run), [refresh_is_due, ("sync continues now",)]),
    **{
        f"revoked: {reason}": (replace(due, status=Status.revoked, revoked_reason=reason), Outlook(held), [again])
        for reason in ("access_revoked", "refresh_rejected", "refresh_expired")
    },
    "revoked: a personal token": (
        replace(due, status=Status.revoked, revoked_reason="access_revoked", client_id=personal_client),
        Outlook(held),
        [("personal access token", "breezesync connect-token ada --provider breezedoc")],
    ),
    "revoked: rotation_lost": (
        replace(due, status=Status.revoked, revoked_reason="rotation_lost"),
        Outlook(held),
        [again, ("lost answer", "active again")],
    ),
    "disconnected": (replace(due, status=Status.disconnected), Outlook(), [again]),
}

started = Authorization(
    id="a1",
    provider="breezedoc",
    client_id="client-1",
    user_id="ada",
    redirect_uri="https://o.example/callback",
    step=Step.started,
    state_hash="s",
    browser_hash="b",
    created_at=now,
    expires_at=now + 600 * second,
)
received = replace(started, step=Step.received, code_received_at=now, due_at=now + 30 * second)

authorizations: dict[str, tuple[Authorization, tuple[str, ...]]] = {
    "the user is away": (started, ("expires", "at 2026-11-26 12:10:00 UTC, in 10 minutes")),
    "the user stayed away": (replace(started, expires_at=now), ("expired",)),
    "a code that waits": (received, ("a worker continues", "at 2026-11-26 12:00:30 UTC, in 30 seconds")),
    "a code that waits for the application": (
        replace(received, confirmation=Confirmation.application, due_at=now + 600 * second),
        ("has to confirm", "not_confirmed", "at 2026-11-26 12:10:00 UTC, in 10 minutes"),
    ),
    "a code that waited too long": (
        replace(received, confirmation=Confirmation.application, code_received_at=now - 600 * second),
        ("did not confirm in time", "not_confirmed"),
    ),
    "a code that was confirmed": (
        replace(received, confirmation=Confirmation.application, confirmed_at=now, due_at=now),
        ("a worker continues now",),
    ),
    "a code that is due": (replace(received, due_at=now), ("a worker continues now",)),
    "leased by a worker": (
        replace(received, lease_owner="w", lease_until=now + 60 * second),
        ("takes over", "at 2026-11-26 12:01:00 UTC, in 60 seconds"),
    ),
    "tokens without an account": (replace(received, step=Step.granted), ("a worker continues",)),
    "connected": (replace(received, step=Step.connected, connection_id="c1"), ("breezesync explain c1",)),
    "denied": (replace(received, step=Step.denied), ("breezesync connect-link ada --provider breezedoc",)),
    "failed, of a connection that is there": (
        replace(received, step=Step.failed, target_connection_id="c1"),
        ("breezesync connect-link ada --provider breezedoc --connection c1",),
    ),
}


def assert_named(steps: list[str], expected: list[tuple[str, ...]]) -> None:
    """Each step names everything that is expected of it, whatever the words between."""
    assert len(steps) == len(expected), steps
    for step, parts in zip(steps, expected, strict=True):
        assert [part for part in parts if part not in step] == [], step


@pytest.mark.parametrize("case", futures)
def test_the_next_steps_of_a_connection(case: str) -> None:
    connection, outlook, expected = futures[case]
    assert_named(describe_next(connection, outlook, now), expected)


@pytest.mark.parametrize("case", authorizations)
def test_the_next_step_of_an_authorization(case: str) -> None:
    authorization, expected = authorizations[case]
    assert_named(describe_next_of_authorization(authorization, now), [expected])
