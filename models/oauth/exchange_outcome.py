"""Decide what becomes of an authorization: before its code is presented, and by each answer after that."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from models.account import Account
from models.api_response import ApiOutcome, Failed, Forbidden, Throttled, Unauthorized
from models.crypto.secrets import Secret
from models.journal import Note, Verb
from models.messaging.events import FailureReason
from models.oauth.authorization import (
    Authorization,
    AuthorizationChange,
    Step,
    awaits_application,
    end,
    end_of_code,
    fail,
    give_up_after,
    grant,
    hold_up,
    is_put_off,
    keep_waiting,
    note_of,
    open_steps,
    put_off,
)
from models.oauth.client import OAuthClient
from models.oauth.connection import Connection, Status, answer_delay
from models.oauth.credential import Credential, is_presented
from models.oauth.refresh_policy import asked_for, retry_at, throttled_pause
from models.oauth.token_pair import TokenPair
from models.oauth.token_response import (
    ClientRefused,
    Evidence,
    GrantRefused,
    NotNow,
    OutcomeUnknown,
    RequestRefused,
    ScopeRefused,
    TokenOutcome,
    TokensGranted,
)

most_presentations = 2
no_more_requests = "the provider takes no more token requests at the moment"
kept_back = "no code is sent to the token endpoint at the moment; breezesync provider status says why"
time_to_connect = timedelta(seconds=5)
"""The job that saved an exchange's tokens goes on with them at once; the sweep sends another only if it died."""
shortest_pause = timedelta(seconds=3)
time_to_accept = timedelta(seconds=10)
"""For how long after an exchange a provider's API may not yet know the new access token."""
pause_to_accept = timedelta(seconds=1)
same_moment = timedelta(seconds=5)
"""Of two authorizations whose codes came within this time, none is the newer one: the last to be saved counts."""


@dataclass(frozen=True, slots=True)
class CodeRequest:
    """A code about to be presented, its lease and intent already saved.

    authorization: as it was saved, with the lease.
    code, verifier: opened for this request only.
    send_before: when the lease becomes too short for the request; it must not leave after that.
    after_unknown: whether the code was presented before and that answer is not known.
    """

    authorization: Authorization
    client: OAuthClient
    code: Secret
    verifier: Secret | None
    send_before: datetime
    after_unknown: bool = False


@dataclass(frozen=True, slots=True)
class PresentCode:
    """Present the code of this leased authorization."""

    authorization: Authorization


@dataclass(frozen=True, slots=True)
class ReadAccount:
    """The tokens of this leased authorization are saved: read whose account they open."""

    authorization: Authorization


@dataclass(frozen=True, slots=True)
class ExchangeDecision:
    """What the token endpoint's answer changes.

    change: the authorization's new state, its events and notes.
    pair: the tokens to seal into the authorization; the client is accepted as well.
    paused_until: when the provider takes token requests again, if it throttles them.
    """

    change: AuthorizationChange
    pair: TokenPair | None = None
    paused_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class MakeConnection:
    """Save the tokens as the next generation of `before`, or of a new connection."""

    account: Account
    before: Connection | None


@dataclass(frozen=True, slots=True)
class Later:
    """What has become of the connection since some authorization began.

    authorized_at: when its user authorized it last.
    disconnected_at: when the disconnect that ended it was asked for; None if it is not disconnected.
    """

    authorized_at: datetime | None = None
    disconnected_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeepNewer:
    """The user has authorized the account once more since, and that was saved first: its tokens stay."""

    change: AuthorizationChange


@dataclass(frozen=True, slots=True)
class EndGrant:
    """The tokens are not wanted: they open another account than the one to be authorized again, or one that was
    disconnected since. End the authorization.

    `revokes` is whether the grant is ended at the provider too. It is not if a connection of the account may use the
    same grant: some providers keep one for each user and client.
    """

    change: AuthorizationChange
    revokes: bool


def plan_exchange(
    found: Authorization, owner: str, lease: timedelta, now: datetime, kept_until: datetime | None = None
) -> PresentCode | ReadAccount | AuthorizationChange | None:
    """Decide what to do with an authorization; None if there is nothing to do now.

    `kept_until` is when a breaker that keeps codes back is looked at again; None if there is none.
    """
    if found.step not in open_steps or is_put_off(found, now):
        return None
    if found.lease_until is not None and found.lease_until > now:
        return None
    until = now + lease
    leased = replace(found, lease_owner=owner, lease_until=until, due_at=until)
    match found.step:
        case Step.started if found.expires_at <= now:
            return fail(found, "expired", "the user did not come back from the provider in time")
        case Step.granted:
            return ReadAccount(leased)
        case Step.received:
            return _plan_code(found, leased, now, kept_until)
        case _:
            return None


def _plan_code(
    found: Authorization, leased: Authorization, now: datetime, kept_until: datetime | None
) -> PresentCode | AuthorizationChange | None:
    """Decide what to do with a code: it leaves once it is confirmed, not behind an open breaker, and while it lives."""
    is_over = now >= end_of_code(found)
    if awaits_application(found):
        late = "the application did not confirm in time whose browser it was"
        return fail(found, "not_confirmed", late) if is_over else None
    # A code whose answer was lost may be spent, whether or not the endpoint takes requests by now.
    if found.attempts >= (1 if is_over else most_presentations):
        return fail(found, "answer_lost", "the provider's answer to the code exchange was lost")
    if kept_until is not None and is_over:
        text = "the provider's token endpoint was unavailable for as long as the code was valid"
        return fail(found, "provider_unavailable", text)
    if kept_until is not None:
        until = min(kept_until, end_of_code(found))
        return keep_waiting(found, "provider_unavailable", kept_back, Verb.exchange_kept_back, until)
    if is_over:
        return _end_late(found)
    return PresentCode(leased)


def wait_for_rate_limit(found: Authorization, until: datetime) -> Authorization:
    """Return it put off because no token request may leave before `until`; its code may not live that long."""
    held_up = found if found.reason == "provider_unavailable" else hold_up(found, no_more_requests)
    return put_off(held_up, min(until, end_of_code(found)))


def decide_exchange(
    found: Authorization, request: CodeRequest, outcome: TokenOutcome, deadline: timedelta, now: datetime
) -> ExchangeDecision | None:
    """Decide what the token endpoint's answer changes; None if nothing.

    `found` is the row as it is now, `deadline` how long a token request may take. If another worker has taken the
    lease over, only tokens still count: any other answer is for that worker to act on.
    """
    if found.step is not Step.received:
        return None
    if found.lease_owner != request.authorization.lease_owner and not isinstance(outcome, TokensGranted):
        return None
    match outcome:
        case TokensGranted():
            granted = grant(found, now + time_to_connect)
            return ExchangeDecision(AuthorizationChange(granted), pair=TokenPair(outcome, now))
        case GrantRefused(evidence) | ScopeRefused(evidence) | RequestRefused(evidence):
            text = evidence.hint or evidence.description or "the code was refused"
            return ExchangeDecision(fail(found, _why_refused(request, outcome), text, evidence))
        case ClientRefused(evidence):
            text = evidence.description or "our client was refused"
            return ExchangeDecision(fail(found, "client_rejected", text, evidence))
        case NotNow():
            return _try_later(found, request, outcome, now)
        case OutcomeUnknown(evidence):
            waiting = hold_up(put_off(found, now + deadline), _explain(evidence))
            return ExchangeDecision(AuthorizationChange(waiting, notes=(note_of(Verb.exchange_unknown, evidence),)))
        case _:
            assert_never(outcome)


def decide_account(
    found: Authorization, account: Account, before: Connection | None, later: Later, shares_grant: bool
) -> MakeConnection | KeepNewer | EndGrant:
    """Decide whether the account becomes a connection.

    `before` is the connection that the authorization names, or else the user's connection of this account;
    `shares_grant` is whether an active connection of the account was authorized for the same client. Reading whose
    account it is may take a day: what the user or the application has done `later` counts. Yet a disconnect that comes
    while the code lives, and so while the user connects, is meant for what was connected before.
    """
    received_at = found.code_received_at or found.created_at
    if found.target_connection_id and (before is None or before.account_id != account.id):
        change = fail(found, "account_mismatch", "another account answered than the one to be authorized again")
    elif later.disconnected_at is not None and later.disconnected_at > end_of_code(found):
        change = fail(found, "expired", "the account was disconnected after the user had authorized it")
    elif before is not None and later.authorized_at is not None and later.authorized_at - received_at > same_moment:
        connected = connect(found, before.id)
        return KeepNewer(replace(connected, notes=(Note(Verb.exchange_superseded, {"connection_id": before.id}),)))
    else:
        return MakeConnection(account, before)
    if shares_grant:
        spared = Note(Verb.exchange_grant_spared, {"account_id": account.id})
        change = replace(change, notes=(*change.notes, spared))
    return EndGrant(change, revokes=not shares_grant)


def await_refresh(
    found: Authorization, before: Connection | None, credential: Credential | None, now: datetime
) -> AuthorizationChange | None:
    """Put off an authorization without a refresh token of its own while the old one is being presented.

    The answer decides which refresh token the connection keeps. None if there is nothing to wait for, or if it took as
    long as a code lives: then the new access token counts more.
    """
    if before is None or before.status is not Status.active or before.client_id != found.client_id:
        return None
    if credential is None or not is_presented(credential, before.generation) or now >= end_of_code(found):
        return None
    return AuthorizationChange(put_off(found, now + shortest_pause))


def decide_without_account(
    found: Authorization, outcome: ApiOutcome, provider: str, pair: TokenPair, now: datetime
) -> AuthorizationChange:
    """Decide what an answer that names no account changes.

    401 may only mean that the tokens are too new, or that they expired while the API was away; 403 will not change by
    waiting. Anything else is tried again for a day.
    """
    accepted_by = pair.issued_at + time_to_accept
    match outcome:
        case Unauthorized() if now < accepted_by:
            return AuthorizationChange(put_off(found, min(now + pause_to_accept, accepted_by)))
        case Unauthorized() if pair.expires_at is not None and now > pair.expires_at - answer_delay:
            return fail(found, "answer_lost", f"{provider} did not tell whose account it is before the tokens expired")
        case Unauthorized():
            return fail(found, "code_rejected", f"{provider} refused the tokens that it had just issued")
        case Forbidden():
            return fail(found, "denied", f"the account's plan at {provider} does not include access for applications")
        case Throttled(retry_after):
            throttled = hold_up(found, "the API takes no more requests for this account at the moment (429)")
            return AuthorizationChange(put_off(throttled, now + retry_after))
        case _ if now - (found.code_received_at or now) > give_up_after:
            return fail(found, "answer_lost", f"{provider} never told whose account it is")
        case _:
            why = outcome.why if isinstance(outcome, Failed) else "the API's answer names no account"
            tried = hold_up(replace(found, attempts=found.attempts + 1), f"reading whose account it is: {why}")
            return AuthorizationChange(put_off(tried, retry_at(now, tried.attempts, None)))


def connect(found: Authorization, connection_id: str) -> AuthorizationChange:
    """End the authorization as connected."""
    ended = end(found, Step.connected)
    return AuthorizationChange(replace(ended, connection_id=connection_id, reason=None, description=None))


def _end_late(found: Authorization) -> AuthorizationChange:
    """End an authorization whose code was not spent before its life was over, by what held it up."""
    held_up = f": {found.description}" if found.reason else ""
    if found.reason == "provider_unavailable":
        text = f"the provider took no code for as long as this one was valid{held_up}"
        return fail(found, "provider_unavailable", text)
    return fail(found, "expired", f"the code could not be exchanged in time{held_up}")


def _why_refused(request: CodeRequest, outcome: GrantRefused | ScopeRefused | RequestRefused) -> FailureReason:
    """Return the reason; a code presented for the second time was probably spent by the first.

    A code that expired while the provider took none (only a 503 or 429 does not count as an attempt) is not the user's
    matter.
    """
    presented, expired = request.authorization, isinstance(outcome, GrantRefused) and outcome.expired
    if expired and presented.reason == "provider_unavailable" and presented.attempts < most_presentations:
        return "provider_unavailable"
    if request.after_unknown:
        return "answer_lost"
    return "expired" if expired else "code_rejected"


def _explain(evidence: Evidence) -> str:
    """Return what the token endpoint did, in words."""
    answer = f"HTTP {evidence.status}" if evidence.status else "no answer"
    return f"exchanging the code: {' '.join(filter(None, (answer, evidence.error, evidence.hint)))}"


def _try_later(found: Authorization, request: CodeRequest, outcome: NotNow, now: datetime) -> ExchangeDecision:
    """Put it off: the code was not spent. It counts as presented only if that is not sure."""
    pause = asked_for(outcome.retry_after) or (throttled_pause if outcome.throttled else shortest_pause)
    is_unspent = outcome.sure and not request.after_unknown
    presented_at = None if is_unspent else found.presented_at
    restored = replace(found, presented_at=presented_at, attempts=found.attempts - 1)
    waiting = hold_up(put_off(restored, min(now + pause, end_of_code(found))), _explain(outcome.evidence))
    change = AuthorizationChange(waiting, notes=(note_of(Verb.exchange_not_now, outcome.evidence),))
    return ExchangeDecision(change, paused_until=now + pause if outcome.throttled else None)
