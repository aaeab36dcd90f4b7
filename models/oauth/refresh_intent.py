"""What is committed before a refresh token leaves, and what a presentation without a known outcome comes to."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from models.api_response import ApiOutcome
from models.journal import Note, Verb
from models.messaging import messages
from models.oauth.breaker import Endpoint, endpoint_of, reject
from models.oauth.client import StoredClient
from models.oauth.connection import Connection
from models.oauth.credential import (
    Credential,
    forget_presentation,
    lease,
    present,
    release_lease,
)
from models.oauth.refresh_decision import RefreshDecision, end, postpone, retry_later, wait_for_client
from models.oauth.refresh_policy import Patience
from models.oauth.token_response import (
    Evidence,
)
from models.oauth.unknown_outcome import Lost, PresentAgain, Presumed, Unspent, Verdict, Wait
from models.provider import Provider


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
    return replace(retry_later(connection, release_lease(credential), now, problem="token_unreadable"), notes=(note,))


def pause_client(
    connection: Connection, credential: Credential, client: StoredClient, evidence: Evidence, now: datetime
) -> RefreshDecision:
    """No request can leave as our client: its breaker opens as if the token endpoint had rejected it."""
    rejected, client_facts = reject(client, evidence, now)
    return replace(
        wait_for_client(connection, credential, rejected, evidence, now), client=rejected, client_facts=client_facts
    )


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


_verbs: Mapping[type[Verdict], Verb] = {
    Unspent: Verb.resolved_unspent,
    Presumed: Verb.resolved_presumed,
    PresentAgain: Verb.resolved_presentagain,
    Lost: Verb.resolved_lost,
    Wait: Verb.resolved_wait,
}
