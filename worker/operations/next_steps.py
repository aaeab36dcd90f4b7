"""What happens next to a connection or an authorization, and when."""

from dataclasses import dataclass, field
from datetime import datetime

from models.oauth.authorization import Authorization, Step, awaits_application, end_of_code
from models.oauth.client import StoredClient
from models.oauth.connection import Connection, Status, personal_client
from models.oauth.credential import Credential
from models.oauth.hold import Hold, Refusal
from models.oauth.refresh_policy import Patience, patience_with
from models.oauth.token_rate_limit import Pace, WaitUntil, step
from models.provider import Provider
from models.sync.sync_run import SyncLease, SyncRun
from worker.operations.texts import format_future, format_past


@dataclass(frozen=True, slots=True)
class Outlook:
    """What decides a connection's next steps, besides the connection itself; None for each part that does not exist."""

    credential: Credential | None = None
    client: StoredClient | None = None
    provider: Provider | None = None
    pace: Pace = field(default_factory=Pace)
    run: SyncRun | None = None
    lease: SyncLease | None = None
    refusal: Refusal | None = None


def describe_next(connection: Connection, outlook: Outlook, now: datetime) -> list[str]:
    """Return what happens next: first to the tokens, then to the data."""
    if connection.status is not Status.active:
        return _describe_reconnecting(connection)
    return [*_describe_refresh(connection, outlook, now), *_describe_sync(connection, outlook, now)]


def describe_next_of_authorization(authorization: Authorization, now: datetime) -> list[str]:
    """Return what happens next to an authorization."""
    match authorization.step:
        case Step.started if authorization.expires_at > now:
            return [f"if the user does not come back, it expires {format_future(authorization.expires_at, now)}"]
        case Step.started:
            return ["it has expired; the next sweep ends it"]
        case Step.received if awaits_application(authorization) and end_of_code(authorization) > now:
            end = format_future(end_of_code(authorization), now)
            return [f"the application has to confirm it; if it does not, it ends as not_confirmed {end}"]
        case Step.received if awaits_application(authorization):
            return ["the application did not confirm in time; the next sweep ends it as not_confirmed"]
        case Step.received | Step.granted:
            until = authorization.lease_until
            if until is not None and until > now:
                return [
                    f"a worker is processing it; if that worker dies, another takes over {format_future(until, now)}"
                ]
            return [f"a worker continues {format_future(authorization.due_at or now, now)}"]
        case Step.connected:
            return [f"nothing; its connection goes on: breezesync explain {authorization.connection_id}"]
        case Step.denied | Step.failed:
            target = authorization.target_connection_id
            link = f"breezesync connect-link {authorization.user_id} --provider {authorization.provider}"
            return [f"the user has to start again: {link}{f' --connection {target}' if target else ''}"]


def _describe_reconnecting(connection: Connection) -> list[str]:
    if connection.client_id == personal_client:
        command = f"breezesync connect-token {connection.user_id} --provider {connection.provider}"
        return [f"a new personal access token is needed: {command}"]
    link = f"breezesync connect-link {connection.user_id} --provider {connection.provider}"
    steps = [f"the user has to authorize again: {link} --connection {connection.id}"]
    if connection.revoked_reason == "rotation_lost":
        steps.append("if the lost answer turns up after all, the connection becomes active again by itself")
    return steps


def _describe_refresh(connection: Connection, outlook: Outlook, now: datetime) -> list[str]:
    due, credential, provider = connection.refresh_due_at, outlook.credential, outlook.provider
    if outlook.refusal is not None and (kept := _describe_refusal(outlook.refusal, now)):
        return kept
    if credential is not None and credential.refresh_token is None:
        return ["it has no refresh token: when the API rejects its access token, the user has to authorize again"]
    if credential is not None and credential.lease_until is not None and credential.lease_until > now:
        until = format_future(credential.lease_until, now)
        return [f"a worker is refreshing its tokens; if that worker dies, another takes over {until}"]
    if due is None:
        return ["no refresh is planned: the provider named no expiry, so a 401 from the API will trigger one"]
    waits = _describe_waits(outlook, now)
    if credential is not None and provider is not None and credential.presented_generation == connection.generation:
        return [*_describe_unknown_outcome(due, credential, provider, now), *waits]
    if due > now:
        return [f"refresh {format_future(due, now)}", *waits]
    return waits or ["refresh is due now: the next sweep enqueues it"]


def _describe_unknown_outcome(due: datetime, credential: Credential, provider: Provider, now: datetime) -> list[str]:
    """Return when a refresh token whose answer was lost is checked, and what may follow."""
    if credential.presented_at is None:
        return []
    done = credential.answered_at or credential.presented_at + patience_with(provider, Patience()).settle
    result = "no answer was saved" if credential.answered_at is None else "the provider answered 503"
    at = max(due, done)
    if_used_up = {
        "harmless": "it is sent again, which is harmless at this provider",
        "grace": f"it is sent again, within {provider.grace_seconds} s of the first time",
        "family_revoked": "the new tokens are lost and the user has to authorize again",
    }
    return [
        f"its refresh token was sent {format_past(credential.presented_at, now)}, and {result}",
        f"the API is asked with the old access token whether it was used up: {format_future(at, now)}",
        f"if it was used up, {if_used_up[provider.refresh_reuse]}",
    ]


def _describe_waits(outlook: Outlook, now: datetime) -> list[str]:
    """Return what else a refresh waits for: an open breaker, a 429 of the token endpoint, or its rate limit."""
    client, provider, pace = outlook.client, outlook.provider, outlook.pace
    if client is not None and client.is_open:
        return describe_breaker(client, now)
    if pace.paused_until is not None and pace.paused_until > now:
        return [f"the token endpoint answered 429: refreshes continue {format_future(pace.paused_until, now)}"]
    if provider is not None:
        stepped = step(pace, provider.token_requests_per_minute, "refresh", now)
        if isinstance(stepped, WaitUntil):
            return [f"the token endpoint's rate limit is reached: refreshes continue {format_future(stepped.at, now)}"]
    return []


def describe_hold(hold: Hold, count: int, now: datetime) -> str:
    """Return what is held and since when, and what decides about it."""
    who = "an operator began to hold them" if hold.by_operator else "more were refused than people revoke"
    began = f"{who} {format_past(hold.opened_at, now)}"
    how = "by personal access token" if hold.client_id == personal_client else f"of OAuth client {hold.client_id}"
    whose = f"{count} connections {how} at {hold.provider} are held"
    trial = f"one is tried {format_future(hold.next_trial_at, now)}"
    return f"{whose}: {began}; {trial}; breezesync provider release {hold.provider}, or accept {hold.provider}"


def _describe_refusal(refusal: Refusal, now: datetime) -> list[str]:
    """Return what becomes of a connection whose token was refused and is kept."""
    refused = f"its token was refused {format_past(refusal.refused_at, now)}"
    if refusal.is_held:
        commands = f"breezesync provider release {refusal.provider}, or accept {refusal.provider}"
        return [f"{refused}, as those of many others; it is held until one of them turns out good, or {commands}"]
    if refusal.due_at is None:
        return []
    return [f"{refused}; it is tried again {format_future(refusal.due_at, now)}, and ends if it is refused again"]


def describe_breaker(client: StoredClient, now: datetime) -> list[str]:
    """Return why an open breaker keeps tokens back, and when that may end."""
    if client.paused_at is not None:
        resume = f"breezesync provider resume {client.provider}"
        return [f"an operator paused OAuth client {client.client_id}; no token is sent until {resume}"]
    since = "" if client.opened_at is None else f", {format_past(client.opened_at, now)}"
    if client.is_rejected:
        why = f"the provider rejects its OAuth client {client.client_id} ({client.error}){since}"
    else:
        why = f"the token endpoint gives no certain answer ({client.error}){since}"
    probe = format_future(client.next_probe_at or now, now)
    return [f"{why}; no token is sent, and a probe that spends nothing is sent {probe}"]


def _describe_sync(connection: Connection, outlook: Outlook, now: datetime) -> list[str]:
    steps, run, lease = [], outlook.run, outlook.lease
    is_leased = lease is not None and lease.is_valid(now)
    if run is not None:
        resume_at = run.resume_at or now
        steps.append(f"the running sync continues {format_future(resume_at, now)}")
    elif lease is not None and is_leased:
        until = format_future(lease.until, now)
        steps.append(f"a worker is syncing it; if that worker dies, another begins {until}")
    elif connection.sync_due_at is not None:
        steps.append(f"next sync {format_future(connection.sync_due_at, now)}")
    if connection.access_limited:
        steps.append("everything is synced again once the account's plan has API access")
    if connection.sync_requested and (run is not None or is_leased):
        steps.append("another sync follows, because one was requested while this one ran")
    return steps
