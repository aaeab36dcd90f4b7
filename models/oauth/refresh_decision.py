"""What one transaction of a refresh writes, and the changes of rows that its decisions share."""

from dataclasses import dataclass, replace
from datetime import datetime

from models.journal import Note, Verb
from models.messaging import messages
from models.messaging.events import Detector, Fact, RevokedReason
from models.oauth.claims import Claims, refresh_released, released, unchanged_claims
from models.oauth.client import StoredClient
from models.oauth.connection import Connection, NewPair, refresh, revoke
from models.oauth.credential import (
    Credential,
    drop_tokens,
)
from models.oauth.hold import Hold, Refusal
from models.oauth.refresh_policy import present_again_at, retry_at
from models.oauth.token_pair import TokenPair
from models.oauth.token_response import (
    Evidence,
    TokensGranted,
)


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


def claim_until(
    connection: Connection, until: datetime | None, now: datetime, credential: Credential | None = None
) -> RefreshDecision:
    """Let the sweep send this refresh again at `until`, or as soon as it may; when it is due stays as it was."""
    return RefreshDecision(subject=connection, at=now, claims=Claims(refresh=until), credential=credential)


def postpone(connection: Connection, until: datetime, now: datetime) -> RefreshDecision:
    """Make the refresh due at `until`."""
    due = replace(connection, refresh_due_at=until)
    return RefreshDecision(subject=connection, at=now, connection=due, claims=refresh_released)


def save_pair(connection: Connection, credential: Credential, pair: TokenPair) -> RefreshDecision:
    """The next generation of a connection, whose pair may be saved (see `may_hold`).

    It is decided as of when the pair was issued, however late it is saved. A connection whose access token the API
    refused is due for a sync at once.
    """
    granted, at = pair.granted, pair.issued_at
    refreshed, facts = refresh(connection, NewPair(at, granted.expires_in, granted.scope))
    was_refused = credential.refused_generation == connection.generation
    if was_refused:
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
        claims=released if was_refused else refresh_released,
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
        notes=(note_evidence(connection, Verb(f"revoked.{reason}"), evidence),),
        runs_end=reason,
    )


def retry_later(
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


def wait_for_client(
    connection: Connection, credential: Credential, client: StoredClient, evidence: Evidence, now: datetime
) -> RefreshDecision:
    """Our client is rejected, and nothing was spent: this connection is due after the probe, and after the others."""
    due = present_again_at(client.next_probe_at or now, now, credential.failures + 1, connection.expires_at)
    waiting = retry_later(connection, credential, now, until=due)
    return replace(waiting, notes=(note_evidence(connection, Verb.client_rejected, evidence),))


def note_evidence(connection: Connection, verb: Verb, evidence: Evidence) -> Note:
    seen = {
        "generation": connection.generation,
        "status": evidence.status,
        "error": evidence.error,
        "hint": evidence.hint,
        "description": evidence.description,
    }
    return Note(verb, seen)
