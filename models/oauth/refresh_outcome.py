"""What a refresh does to its rows: each function takes rows, an answer and the time, and returns one decision."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from models.api_response import ApiOutcome
from models.journal import Note, Problem, Verb
from models.messaging import messages
from models.messaging.events import Detector, Fact, ReauthorizationRequired, RevokedReason
from models.oauth.breaker import Endpoint, Sighting, endpoint_of, observe, reject
from models.oauth.claims import Claims, refresh_released, released, unchanged_claims
from models.oauth.client import StoredClient
from models.oauth.connection import Connection, NewPair, Status, may_hold, refresh, revoke
from models.oauth.credential import (
    Credential,
    drop_tokens,
    forget_presentation,
    lease,
    note_unavailable,
    present,
    release_lease,
    withdraw_presentation,
)
from models.oauth.hold import EndNow, Hold, HoldBack, Judgement, Refusal, WaitUntil, open_hold
from models.oauth.refresh_policy import Patience, asked_for, present_again_at, retry_at, throttled_pause
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
from models.oauth.unknown_outcome import Lost, PresentAgain, Presumed, Unspent, Verdict, Wait
from models.provider import Provider


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshDecision:
    """Everything that one transaction of a refresh writes.

    subject: the connection as it was read and locked; its generation guards the save.
    at: the time of the decision, for events and notes.
    connection: the connection to save; None if it does not change.
    claims: what becomes of the connection's claims.
    credential: the credential to save; None if it does not change.
    granted: the new tokens to seal into `credential`; a refresh token that is missing here stays as it was.
    facts: the connection's events.
    notes: the journal's entries, in order.
    client: the OAuth client to save, with its events `client_facts`; None if it does not change.
    client_accepted: whether the answer proves that the token endpoint accepts our client.
    endpoint_paused_until: until when the fleet sends no token request to this provider; None for no pause.
    refusal: the refusal to save, with the client locked; None if there is none.
    hold: the hold that it opens.
    runs_end: the reason for which the connection's sync runs end; None if they go on.
    unsaved: a pair that came too late to be saved; of a disconnected account it is revoked at the provider.
    send: the messages to send after the commit.
    """

    subject: Connection
    at: datetime
    connection: Connection | None = None
    claims: Claims = unchanged_claims
    credential: Credential | None = None
    granted: TokensGranted | None = None
    facts: tuple[Fact, ...] = ()
    notes: tuple[Note, ...] = ()
    client: StoredClient | None = None
    client_facts: tuple[Fact, ...] = ()
    client_accepted: bool = False
    endpoint_paused_until: datetime | None = None
    runs_end: RevokedReason | None = None
    refusal: Refusal | None = None
    hold: Hold | None = None
    unsaved: TokensGranted | None = None
    send: tuple[messages.Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """A job that is about to present a refresh token.

    owner: the name that the job leases with.
    scope: the scope to send; empty for none.
    after_unknown: whether the outcome of an earlier presentation of this token is unknown.
    presumed: whether that earlier presentation counts as unspent; its note goes when this one is committed.
    """

    owner: str
    scope: str = ""
    after_unknown: bool = False
    presumed: bool = False


@dataclass(frozen=True, slots=True)
class Presentation:
    """A committed intent: this job alone may present the refresh token of `generation`, and only before `send_before`.

    before: the credential without this presentation: what an answer that spent nothing brings back.
    at: when the intent was committed.
    endpoint: where it is presented.
    """

    attempt: Attempt
    generation: int
    before: Credential
    send_before: datetime
    at: datetime
    endpoint: Endpoint


def claim_until(
    connection: Connection, until: datetime | None, now: datetime, credential: Credential | None = None
) -> RefreshDecision:
    """Let the sweep send this refresh again at `until`, or as soon as it may; when it is due stays as it was."""
    return RefreshDecision(subject=connection, at=now, claims=Claims(refresh=until), credential=credential)


def postpone(connection: Connection, until: datetime, now: datetime) -> RefreshDecision:
    """Make the refresh due at `until`."""
    due = replace(connection, refresh_due_at=until)
    return RefreshDecision(subject=connection, at=now, connection=due, claims=refresh_released)


def begin_resolving(
    connection: Connection, credential: Credential, owner: str, until: datetime, now: datetime
) -> RefreshDecision:
    """Lease the connection while its access token is probed."""
    return RefreshDecision(subject=connection, at=now, credential=lease(credential, owner, until))


def intend(
    connection: Connection,
    before: Credential,
    attempt: Attempt,
    provider: Provider,
    patience: Patience,
    now: datetime,
) -> tuple[Presentation, RefreshDecision]:
    """Lease and intent: what must be committed before the refresh token leaves.

    `before` is the credential without a lease. The time to resolve the outcome is committed too: if no answer is ever
    saved, the sweep sends the refresh again then.
    """
    earlier = forget_presentation(before) if attempt.presumed else before
    # Race: a worker sleeps past its lease while another one takes over; it must not send after that.
    send_before = now + patience.lease - patience.deadline
    if attempt.after_unknown and provider.refresh_reuse == "grace" and earlier.presented_at is not None:
        # Race: a second try that leaves after the grace of the first would end the token's family.
        send_before = min(send_before, earlier.presented_at + timedelta(seconds=provider.grace_seconds))
    presented = present(earlier, connection.generation, now)
    decision = replace(
        postpone(connection, now + patience.settle, now),
        credential=lease(presented, attempt.owner, now + patience.lease),
    )
    presentation = Presentation(attempt, connection.generation, before, send_before, now, endpoint_of(provider))
    return presentation, decision


def set_aside(connection: Connection, credential: Credential, now: datetime) -> RefreshDecision:
    """A token can't be opened: nothing can leave before an operator puts the key back; try again now and then."""
    note = Note(Verb.refresh_token_unreadable, {"generation": connection.generation})
    return replace(_retry(connection, release_lease(credential), now, problem="token_unreadable"), notes=(note,))


def pause_client(
    connection: Connection, credential: Credential, client: StoredClient, evidence: Evidence, now: datetime
) -> RefreshDecision:
    """No request can leave as our client: its breaker opens as if the token endpoint had rejected it."""
    rejected, client_facts = reject(client, evidence, now)
    return replace(
        _wait_for_client(connection, credential, rejected, evidence, now), client=rejected, client_facts=client_facts
    )


def decide(
    connection: Connection,
    credential: Credential,
    client: StoredClient,
    presentation: Presentation,
    outcome: TokenOutcome,
    now: datetime,
) -> RefreshDecision:
    """Return what the answer to a presentation does; the rows were read and locked after the answer came."""
    if isinstance(outcome, TokensGranted):
        return _decide_grant(connection, credential, presentation, outcome, now)
    if isinstance(outcome, GrantRefused):
        decided = _decide_refused(connection, credential, client, presentation, outcome, now)
        return replace(decided, client_accepted=True)
    # A scope that is refused though none was sent is the client's trouble.
    is_clients = isinstance(outcome, ScopeRefused) and not presentation.attempt.scope
    proof = ClientRefused(outcome.evidence) if is_clients else outcome
    seen, facts = observe(client, Sighting(proof, connection.id, presentation.endpoint, presentation.at), now)
    decided = _decide_refused(connection, credential, seen, presentation, outcome, now)
    return replace(decided, client=decided.client or seen, client_facts=facts)


def _decide_grant(
    connection: Connection,
    credential: Credential,
    presentation: Presentation,
    outcome: TokensGranted,
    now: datetime,
) -> RefreshDecision:
    generation = presentation.generation
    # Race: another job, or the take-in, refreshed meanwhile, the user authorized again, or the account was
    # disconnected: the pair is not the newest one.
    if not may_hold(connection, generation):
        note = Note(Verb.refresh_superseded, {"generation": generation})
        return replace(drop_pair(connection, outcome, now), notes=(note,), client_accepted=True)
    saved = save_pair(connection, credential, TokenPair(outcome, now))
    if credential.refused_generation == generation:
        return replace(saved, send=(*saved.send, messages.read_connection(connection.id)))
    return saved


Refused = GrantRefused | ClientRefused | ScopeRefused | RequestRefused | NotNow | OutcomeUnknown


def _decide_refused(
    connection: Connection,
    credential: Credential,
    client: StoredClient,
    presentation: Presentation,
    outcome: Refused,
    now: datetime,
) -> RefreshDecision:
    generation = presentation.generation
    # Race: the outcome of this presentation was settled meanwhile; a late refusal must not overwrite a success.
    if not may_hold(connection, generation) or credential.presented_generation != generation:
        note = Note(Verb.refresh_superseded, {"generation": generation})
        return RefreshDecision(subject=connection, at=now, notes=(note,))
    # Race: the lease ran out and another job presented the same token; its answer decides.
    if credential.lease_owner != presentation.attempt.owner or connection.status is not Status.active:
        note = Note(Verb.refresh_handed_over, {"generation": generation})
        return RefreshDecision(subject=connection, at=now, notes=(note,))
    decision = _decide_refusal(connection, credential, client, presentation, outcome, now)
    return replace(decision, send=(messages.publish_events(), *decision.send))


def _decide_refusal(
    connection: Connection,
    credential: Credential,
    client: StoredClient,
    presentation: Presentation,
    outcome: Refused,
    now: datetime,
) -> RefreshDecision:
    withdrawn = withdraw_presentation(credential, presentation.before)
    match outcome:
        case GrantRefused(evidence):
            reason, detected_by = _blame(presentation, credential, outcome)
            return end(connection, credential, reason, detected_by, evidence, now)
        case OutcomeUnknown(evidence):
            note = _note(connection, Verb.refresh_unknown, evidence)
            return RefreshDecision(subject=connection, at=now, credential=release_lease(credential), notes=(note,))
        case ScopeRefused(evidence) if presentation.attempt.scope:
            return _drop_scope(connection, withdrawn, client, evidence, now)
        case ScopeRefused(evidence) | ClientRefused(evidence):
            return _wait_for_client(connection, withdrawn, client, evidence, now)
        case RequestRefused(evidence):
            retried = _retry(connection, withdrawn, now, problem="refresh_malformed")
            return replace(retried, notes=(_note(connection, Verb.refresh_malformed, evidence),))
        case NotNow():
            is_unspent = outcome.sure or presentation.attempt.after_unknown
            left = withdrawn if is_unspent else note_unavailable(credential, now)
            return _wait_for_endpoint(connection, left, outcome, now)
        case _:
            assert_never(outcome)


def describe_refusal(connection: Connection, ended: RefreshDecision, now: datetime) -> Refusal:
    """Return the refusal that `ended` would end the connection by."""
    [fact] = [each for each in ended.facts if isinstance(each, ReauthorizationRequired)]
    return Refusal(
        connection_id=connection.id,
        provider=connection.provider,
        client_id=connection.client_id,
        generation=connection.generation,
        reason=fact.reason,
        detected_by=fact.detected_by,
        evidence=ended.notes[-1].evidence,
        refused_at=now,
    )


def carry_out(
    judgement: Judgement, ended: RefreshDecision, refusal: Refusal, credential: Credential, presentation: Presentation
) -> RefreshDecision:
    """Return what a judged refusal does: it ends the connection as `ended`, or its tokens are kept.

    A refused token surely was not spent: it can be presented again later.
    """
    subject, now = ended.subject, refusal.refused_at
    match judgement:
        case EndNow():
            return replace(ended, refusal=replace(refusal, ended_at=now))
        case WaitUntil(at):
            verb, problem, kept, hold = Verb.refusal_waits, Problem.refused, replace(refusal, due_at=at), None
        case HoldBack(opens):
            verb, problem, kept = Verb.refusal_held, Problem.held, replace(refusal, is_held=True)
            hold = open_hold(refusal.provider, refusal.client_id, False, now) if opens else None
        case _:
            assert_never(judgement)
    return RefreshDecision(
        subject=subject,
        at=now,
        connection=replace(subject, refresh_due_at=kept.due_at, problem=problem.value),
        claims=refresh_released,
        credential=withdraw_presentation(credential, presentation.before),
        notes=(Note(verb, refusal.evidence),),
        client_accepted=ended.client_accepted,
        refusal=kept,
        hold=hold,
        send=ended.send,
    )


def save_pair(connection: Connection, credential: Credential, pair: TokenPair) -> RefreshDecision:
    """The next generation of a connection, whose pair may be saved (see `may_hold`).

    It is decided as of when the pair was issued, however late it is saved. A connection whose access token the API
    refused is due for a sync at once.
    """
    granted, at = pair.granted, pair.issued_at
    refreshed, facts = refresh(connection, NewPair(at, granted.expires_in, granted.scope))
    if credential.refused_generation == connection.generation:
        refreshed = replace(refreshed, sync_due_at=at)
    rotated = Credential(
        connection_id=connection.id,
        access_token=None,
        refresh_token=credential.refresh_token,
        issued_at=at,
        expires_at=refreshed.expires_at,
        refused_generation=credential.refused_generation,
        refused_at=credential.refused_at,
    )
    return RefreshDecision(
        subject=connection,
        at=at,
        connection=refreshed,
        claims=released,
        credential=rotated,
        granted=granted,
        facts=facts,
        notes=(Note(Verb.refresh_saved, {"generation": refreshed.generation}),),
        client_accepted=True,
        send=(messages.publish_events(),),
    )


def drop_pair(connection: Connection, granted: TokensGranted, now: datetime) -> RefreshDecision:
    """A pair that is not the newest one is not saved."""
    return RefreshDecision(subject=connection, at=now, unsaved=granted)


def settle_unknown(
    connection: Connection, credential: Credential, verdict: Verdict, probe: ApiOutcome | None, now: datetime
) -> RefreshDecision:
    """What the verdict on an unknown outcome does to the rows; after some of them the job presents the token again."""
    seen = {"probe": "none" if probe is None else type(probe).__name__, "generation": connection.generation}
    resolved = RefreshDecision(subject=connection, at=now, notes=(Note(_verbs[type(verdict)], seen),))
    match verdict:
        case Unspent():
            return replace(resolved, credential=forget_presentation(credential))
        case Presumed() | PresentAgain():
            return resolved
        case Wait(until):
            waiting = postpone(connection, until, now)
            return replace(waiting, credential=release_lease(credential), notes=resolved.notes)
        case Lost():
            ended = end(connection, credential, "rotation_lost", "refresh", Evidence(), now)
            return replace(ended, notes=resolved.notes + ended.notes, send=(messages.publish_events(),))
        case _:
            assert_never(verdict)


def attempt_after(verdict: Verdict, owner: str) -> Attempt | None:
    """How the token is presented after an unknown outcome; None if it is not."""
    match verdict:
        case Unspent():
            return Attempt(owner)
        case Presumed():
            return Attempt(owner, after_unknown=True, presumed=True)
        case PresentAgain():
            return Attempt(owner, after_unknown=True)
        case Wait() | Lost():
            return None
        case _:
            assert_never(verdict)


def end(
    connection: Connection,
    credential: Credential,
    reason: RevokedReason,
    detected_by: Detector,
    evidence: Evidence,
    now: datetime,
) -> RefreshDecision:
    """The grant is dead, or counts as dead: its tokens are deleted, and the user has to authorize again."""
    ended, facts = revoke(connection, reason, detected_by, now, f"/auth/{connection.provider}")
    return RefreshDecision(
        subject=connection,
        at=now,
        connection=ended,
        claims=released,
        credential=drop_tokens(credential),
        facts=facts,
        notes=(_note(connection, Verb(f"revoked.{reason}"), evidence),),
        runs_end=reason,
    )


def _retry(
    connection: Connection,
    credential: Credential,
    now: datetime,
    until: datetime | None = None,
    problem: str | None = None,
) -> RefreshDecision:
    """Nothing was spent: the refresh is due again at `until`, or after a pause that grows with each failure."""
    failures = credential.failures + 1
    due = until or retry_at(now, failures, connection.expires_at)
    return RefreshDecision(
        subject=connection,
        at=now,
        connection=replace(connection, refresh_due_at=due, problem=problem or connection.problem),
        claims=refresh_released,
        credential=replace(credential, failures=failures),
    )


def _drop_scope(
    connection: Connection, credential: Credential, client: StoredClient, evidence: Evidence, now: datetime
) -> RefreshDecision:
    """Nothing was spent. Without `scope` the grant keeps the one it has (RFC 6749 §6), so refresh again without it."""
    return replace(
        postpone(connection, now, now),
        credential=credential,
        notes=(_note(connection, Verb.refresh_scope_refused, evidence),),
        client=replace(client, omit_refresh_scope=True),
        send=(messages.carry_out_refresh(connection.id),),
    )


def _wait_for_client(
    connection: Connection, credential: Credential, client: StoredClient, evidence: Evidence, now: datetime
) -> RefreshDecision:
    """Our client is rejected, and nothing was spent: this connection is due after the probe, and after the others."""
    due = present_again_at(client.next_probe_at or now, now, credential.failures + 1, connection.expires_at)
    waiting = _retry(connection, credential, now, until=due)
    return replace(waiting, notes=(_note(connection, Verb.client_rejected, evidence),))


def _wait_for_endpoint(
    connection: Connection, credential: Credential, outcome: NotNow, now: datetime
) -> RefreshDecision:
    pause = asked_for(outcome.retry_after)
    until = None if pause is None else now + pause
    verb = Verb.refresh_not_now if outcome.sure else Verb.refresh_unavailable
    return replace(
        _retry(connection, credential, now, until, problem="provider_unavailable"),
        notes=(_note(connection, verb, outcome.evidence),),
        endpoint_paused_until=now + (pause or throttled_pause) if outcome.throttled else None,
    )


def _blame(presentation: Presentation, credential: Credential, refused: GrantRefused) -> tuple[RevokedReason, Detector]:
    """Why the grant is dead: by our own note of a lost answer first, then by what the API and the hint said.

    A token that the server can't read any more is the server's doing, whatever its API says.
    """
    if presentation.attempt.after_unknown:
        return "rotation_lost", "refresh"
    if refused.unreadable:
        return "refresh_rejected", "refresh"
    by_api = credential.refused_generation == presentation.generation
    if refused.expired:
        return "refresh_expired", "api" if by_api else "refresh"
    return ("access_revoked", "api") if by_api else ("refresh_rejected", "refresh")


def _note(connection: Connection, verb: Verb, evidence: Evidence) -> Note:
    seen = {
        "generation": connection.generation,
        "status": evidence.status,
        "error": evidence.error,
        "hint": evidence.hint,
        "description": evidence.description,
    }
    return Note(verb, seen)


_verbs: Mapping[type[Verdict], Verb] = {
    Unspent: Verb.resolved_unspent,
    Presumed: Verb.resolved_presumed,
    PresentAgain: Verb.resolved_presentagain,
    Lost: Verb.resolved_lost,
    Wait: Verb.resolved_wait,
}
