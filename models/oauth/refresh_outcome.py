"""What an answer to a refresh does to its rows: rows, answer and time in, one decision out."""

from dataclasses import replace
from datetime import datetime
from typing import assert_never

from models.journal import Note, Verb
from models.messaging import messages
from models.messaging.events import Detector, RevokedReason
from models.oauth.breaker import Sighting, observe
from models.oauth.client import StoredClient
from models.oauth.connection import Connection, Status, may_hold
from models.oauth.credential import (
    Credential,
    note_unavailable,
    release_lease,
    withdraw_presentation,
)
from models.oauth.refresh_decision import (
    RefreshDecision,
    drop_pair,
    end,
    note_evidence,
    postpone,
    retry_later,
    save_pair,
    wait_for_client,
)
from models.oauth.refresh_intent import Presentation
from models.oauth.refresh_policy import asked_for, throttled_pause
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
            note = note_evidence(connection, Verb.refresh_unknown, evidence)
            return RefreshDecision(subject=connection, at=now, credential=release_lease(credential), notes=(note,))
        case ScopeRefused(evidence) if presentation.attempt.scope:
            return _drop_scope(connection, withdrawn, client, evidence, now)
        case ScopeRefused(evidence) | ClientRefused(evidence):
            return wait_for_client(connection, withdrawn, client, evidence, now)
        case RequestRefused(evidence):
            retried = retry_later(connection, withdrawn, now, problem="refresh_malformed")
            return replace(retried, notes=(note_evidence(connection, Verb.refresh_malformed, evidence),))
        case NotNow():
            is_unspent = outcome.sure or presentation.attempt.after_unknown
            left = withdrawn if is_unspent else note_unavailable(credential, now)
            return _wait_for_endpoint(connection, left, outcome, now)
        case _:
            assert_never(outcome)


def _drop_scope(
    connection: Connection, credential: Credential, client: StoredClient, evidence: Evidence, now: datetime
) -> RefreshDecision:
    """Nothing was spent. Without `scope` the grant keeps the one it has (RFC 6749 §6), so refresh again without it."""
    return replace(
        postpone(connection, now, now),
        credential=credential,
        notes=(note_evidence(connection, Verb.refresh_scope_refused, evidence),),
        client=replace(client, omit_refresh_scope=True),
        send=(messages.carry_out_refresh(connection.id),),
    )


def _wait_for_endpoint(
    connection: Connection, credential: Credential, outcome: NotNow, now: datetime
) -> RefreshDecision:
    pause = asked_for(outcome.retry_after)
    until = None if pause is None else now + pause
    verb = Verb.refresh_not_now if outcome.sure else Verb.refresh_unavailable
    return replace(
        retry_later(connection, credential, now, until, problem="provider_unavailable"),
        notes=(note_evidence(connection, verb, outcome.evidence),),
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
