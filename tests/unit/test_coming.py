"""What an operator is told to come next, for every state that a connection can be in."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from models.crypto.secrets import Sealed
from models.oauth.client import StoredClient
from models.oauth.connection import Connection, Status, personal_client
from models.oauth.credential import Credential
from models.oauth.token_rate_limit import Pace
from models.provider import Provider
from models.sync.sync_run import RunStatus, SyncRun
from worker.cli.outlook import Outlook, tell_next

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
    "breezedoc", "client-1", rejected_at=now, rejected_error="invalid_client", paused_until=now + 30 * second
)
run = SyncRun("r1", "c1", RunStatus.running, now)
again = "the user has to authorize again: breezesync connect-link ada --provider breezedoc --connection c1"
whose = "its OAuth client client-1 is refused by the provider (invalid_client)"
presented = "its refresh token was presented at 2026-11-26 11:59:40 UTC, 20 s ago and no answer was kept"
asked = (
    "next the API is asked, with the old access token, whether it was spent: at 2026-11-26 12:00:40 UTC, in 40 seconds"
)

futures: dict[str, tuple[Connection, Outlook, list[str]]] = {
    "fresh": (
        fresh,
        Outlook(held, provider=profile),
        [
            "refresh at 2027-09-22 12:00:00 UTC, in 300 days",
            "next reading at 2026-11-26 12:10:00 UTC, in 10 minutes",
        ],
    ),
    "due": (due, Outlook(held, provider=profile), ["refresh is due now: the next sweep sends it"]),
    "no expiry": (
        replace(due, refresh_due_at=None),
        Outlook(held, provider=profile),
        ["no refresh is planned: the provider named no expiry, a 401 will tell"],
    ),
    "no refresh token": (
        replace(due, refresh_due_at=None),
        Outlook(replace(held, refresh_token=None), provider=profile),
        ["it has no refresh token: when the API refuses its access token, the user has to authorize again"],
    ),
    "leased by a worker": (
        due,
        Outlook(replace(shown, lease_owner="w", lease_until=now + 25 * second), provider=profile),
        ["a worker is at its refresh; should it die, another may go on at 2026-11-26 12:00:25 UTC, in 25 seconds"],
    ),
    "presented, no answer kept, reuse ends the family": (
        due,
        Outlook(shown, provider=profile),
        [presented, asked, "if it was, the new pair is lost: the user has to authorize again"],
    ),
    "presented, no answer kept, reuse is harmless": (
        due,
        Outlook(shown, provider=harmless),
        [presented, asked, "if it was, it is presented once more, which does no harm at this provider"],
    ),
    "presented, no answer kept, a grace": (
        due,
        Outlook(shown, provider=grace),
        [presented, asked, "if it was, it is presented once more, within 90 s of the first time"],
    ),
    "presented in a generation that is past": (
        due,
        Outlook(replace(shown, presented_generation=2), provider=profile),
        ["refresh is due now: the next sweep sends it"],
    ),
    "its client refused": (
        due,
        Outlook(held, refused, profile),
        [f"{whose}; one refresh tries it again at 2026-11-26 12:00:30 UTC, in 30 seconds, the others wait"],
    ),
    "its client refused, and the pause over": (
        due,
        Outlook(held, replace(refused, paused_until=now), profile),
        [f"{whose}; one refresh is about to try it again, the others wait"],
    ),
    "its client refused, and being tried": (
        due,
        Outlook(held, replace(refused, paused_until=now, probing_until=now + second), profile),
        [f"{whose}; one refresh tries it again right now, the others wait"],
    ),
    "a 429 at the token endpoint": (
        due,
        Outlook(held, None, profile, Pace((), now + 50 * second)),
        ["the token endpoint asked for a pause (429): the refresh goes at 2026-11-26 12:00:50 UTC, in 50 seconds"],
    ),
    "the budget used up": (
        due,
        Outlook(held, None, profile, Pace((now - 11 * second,) * 60)),
        ["the token endpoint's budget is used up: refreshes go on at 2026-11-26 12:00:50 UTC, in 50 seconds"],
    ),
    "access limited by the plan": (
        replace(fresh, access_limited=True, problem="plan_required"),
        Outlook(held, None, profile),
        [
            "refresh at 2027-09-22 12:00:00 UTC, in 300 days",
            "next reading at 2026-11-26 12:10:00 UTC, in 10 minutes",
            "it reads all again by itself as soon as the account's plan has API access",
        ],
    ),
    "a reading that waits, and one more asked for": (
        replace(fresh, sync_requested=True),
        Outlook(held, None, profile, run=replace(run, resume_at=now + 90 * second)),
        [
            "refresh at 2027-09-22 12:00:00 UTC, in 300 days",
            "the reading under way goes on at 2026-11-26 12:01:30 UTC, in 90 seconds",
            "and one more right after it, because one was asked for meanwhile",
        ],
    ),
    "a reading under way": (
        due,
        Outlook(held, None, profile, run=run),
        ["refresh is due now: the next sweep sends it", "the reading under way goes on at once"],
    ),
    **{
        f"revoked: {reason}": (replace(due, status=Status.revoked, revoked_reason=reason), Outlook(held), [again])
        for reason in ("access_revoked", "refresh_rejected", "refresh_expired")
    },
    "revoked: a personal token": (
        replace(due, status=Status.revoked, revoked_reason="access_revoked", client_id=personal_client),
        Outlook(held),
        ["a new personal access token is needed: breezesync connect-token ada --provider breezedoc"],
    ),
    "revoked: rotation_lost": (
        replace(due, status=Status.revoked, revoked_reason="rotation_lost"),
        Outlook(held),
        [again, "should the lost answer still turn up, the connection comes back by itself"],
    ),
    "disconnected": (replace(due, status=Status.disconnected), Outlook(), [again]),
}


@pytest.mark.parametrize("case", futures)
def test_what_comes_next_is_told(case: str) -> None:
    connection, outlook, expected = futures[case]
    assert tell_next(connection, outlook, now) == expected
