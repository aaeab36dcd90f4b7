"""What happens next to a connection, and when: told from all that decides it."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from models.oauth.client import StoredClient
from models.oauth.connection import Connection, Status, personal_client
from models.oauth.credential import Credential
from models.oauth.refresh_policy import Patience, patience_with
from models.oauth.token_rate_limit import Pace, WaitUntil, step
from models.provider import Provider
from models.sync.sync_run import SyncRun
from worker.cli.explain import tell_time


@dataclass(frozen=True, slots=True)
class Outlook:
    """What decides a connection's future beside itself; None where there is none of it."""

    credential: Credential | None = None
    client: StoredClient | None = None
    provider: Provider | None = None
    pace: Pace = field(default_factory=Pace)
    run: SyncRun | None = None


def tell_next(connection: Connection, outlook: Outlook, now: datetime) -> list[str]:
    """What happens next, the tokens first, then the reading."""
    if connection.status is not Status.active:
        if connection.client_id == personal_client:
            command = f"breezesync connect-token {connection.user_id} --provider {connection.provider}"
            return [f"a new personal access token is needed: {command}"]
        link = f"breezesync connect-link {connection.user_id} --provider {connection.provider}"
        lost = connection.revoked_reason == "rotation_lost"
        return [
            f"the user has to authorize again: {link} --connection {connection.id}",
            *(["should the lost answer still turn up, the connection comes back by itself"] if lost else []),
        ]
    return [*_tell_refresh(connection, outlook, now), *_tell_reading(connection, outlook.run, now)]


def _tell_refresh(connection: Connection, outlook: Outlook, now: datetime) -> list[str]:
    due, credential, provider = connection.refresh_due_at, outlook.credential, outlook.provider
    if credential is not None and credential.refresh_token is None:
        return ["it has no refresh token: when the API refuses its access token, the user has to authorize again"]
    if credential is not None and credential.lease_until is not None and credential.lease_until > now:
        return [
            f"a worker is at its refresh; should it die, another may go on {tell_time(credential.lease_until, now)}"
        ]
    if due is None:
        return ["no refresh is planned: the provider named no expiry, a 401 will tell"]
    waits = _tell_waits(outlook, now)
    if credential is not None and provider is not None and credential.presented_generation == connection.generation:
        return [*_tell_resolution(due, credential, provider, now), *waits]
    if due > now:
        return [f"refresh {tell_time(due, now)}", *waits]
    return waits or ["refresh is due now: the next sweep sends it"]


def _tell_resolution(due: datetime, credential: Credential, provider: Provider, now: datetime) -> list[str]:
    """The token was presented and its answer not kept: when it is looked into, and what may come of it."""
    if credential.presented_at is None:
        return []
    done = credential.answered_at or credential.presented_at + patience_with(provider, Patience()).settle
    came = "no answer was kept" if credential.answered_at is None else "the provider said that it could not (503)"
    at = max(due, done)
    then = {
        "harmless": "if it was, it is presented once more, which does no harm at this provider",
        "grace": f"if it was, it is presented once more, within {provider.grace_seconds} s of the first time",
        "family_revoked": "if it was, the new pair is lost: the user has to authorize again",
    }
    return [
        f"its refresh token was presented {tell_past(credential.presented_at, now)} and {came}",
        f"next the API is asked, with the old access token, whether it was spent: {tell_time(at, now)}",
        then[provider.refresh_reuse],
    ]


def _tell_waits(outlook: Outlook, now: datetime) -> list[str]:
    """What else a refresh has to wait for: its client, the token endpoint's patience, the fleet's budget."""
    client, provider, pace = outlook.client, outlook.provider, outlook.pace
    if client is not None and client.is_rejected:
        who = f"its OAuth client {client.client_id} is refused by the provider ({client.rejected_error})"
        if client.probing_until is not None and client.probing_until > now:
            return [f"{who}; one refresh tries it again right now, the others wait"]
        if client.paused_until is None or client.paused_until <= now:
            return [f"{who}; one refresh is about to try it again, the others wait"]
        return [f"{who}; one refresh tries it again {tell_time(client.paused_until, now)}, the others wait"]
    if pace.paused_until is not None and pace.paused_until > now:
        return [f"the token endpoint asked for a pause (429): the refresh goes {tell_time(pace.paused_until, now)}"]
    if provider is not None:
        stepped = step(pace, provider.token_requests_per_minute, "refresh", now)
        if isinstance(stepped, WaitUntil):
            return [f"the token endpoint's budget is used up: refreshes go on {tell_time(stepped.at, now)}"]
    return []


def _tell_reading(connection: Connection, run: SyncRun | None, now: datetime) -> list[str]:
    coming = []
    if run is not None and run.resume_at is not None:
        coming.append(f"the reading under way goes on {tell_time(run.resume_at, now)}")
    elif run is not None:
        coming.append("the reading under way goes on at once")
    elif connection.sync_due_at is not None:
        coming.append(f"next reading {tell_time(connection.sync_due_at, now)}")
    if connection.access_limited:
        coming.append("it reads all again by itself as soon as the account's plan has API access")
    if connection.sync_requested:
        coming.append("and one more right after it, because one was asked for meanwhile")
    return coming


def tell_past(at: datetime, now: datetime) -> str:
    seconds = max((now - at) / timedelta(seconds=1), 0)
    return f"at {at:%Y-%m-%d %H:%M:%S} UTC, {seconds:.0f} s ago"
