"""The breaker of one client at one token endpoint: what opens it, what closes it, and when it is probed.

While it is open, no refresh token and no code leaves. A probe is a refresh request without a refresh token: it spends
nothing, and a refusal in OAuth's form proves that the endpoint is back.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import assert_never

from models.backoff import Backoff
from models.messaging.events import ClientRecovered, ClientRejected, Fact, ProviderAvailable, ProviderUnavailable
from models.oauth.client import Cause, StoredClient
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
from models.provider import Provider

pauses = {
    Cause.unavailable: Backoff.of_seconds(2, 5, 10, 20, 40, 60),
    Cause.rejected: Backoff.of_seconds(30, 60, 300, 900),
}
few = 3
"""Uncertain answers to this many different connections in a row open the breaker, if a second presentation of a
refresh token is harmless; otherwise the first one does."""
longest_asked_for = timedelta(minutes=5)
"""The longest `Retry-After` of a probe's answer that is believed: an outage may end before it said so."""
after_probe = timedelta(seconds=1)
pause_of_operator = timedelta(seconds=30)


class Proof(Enum):
    """What an answer shows about the endpoint."""

    accepted = auto()
    """It answered for a token or code, and so accepts our client."""
    answered = auto()
    """It refused the request in OAuth's form."""
    rejected = auto()
    """It rejects our client."""
    uncertain = auto()
    """An error of the server, or no answer."""
    misdirected = auto()
    """Something else answered in its place: a redirect, or a body that is not OAuth's."""
    nothing = auto()
    """It throttles us, or we did not ask."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A token endpoint; `most_uncertain` is how many different requests may get no certain answer before it opens the
    breaker."""

    url: str
    most_uncertain: int = few


@dataclass(frozen=True, slots=True)
class Sighting:
    """One answer of a token endpoint.

    subject: the connection or authorization whose request it answers.
    sent_at: when the request's intent was committed.
    """

    outcome: TokenOutcome
    subject: str
    endpoint: Endpoint
    sent_at: datetime


ClientTransition = tuple[StoredClient, tuple[Fact, ...]]


def endpoint_of(provider: Provider) -> Endpoint:
    """Return the provider's token endpoint; if reuse ends a family, one uncertain answer is enough."""
    url = provider.token_url.partition("?")[0]
    return Endpoint(url, few if provider.refresh_reuse == "harmless" else 1)


def proof_of(outcome: TokenOutcome) -> Proof:
    match outcome:
        case TokensGranted() | GrantRefused():
            return Proof.accepted
        case ScopeRefused() | RequestRefused():
            return Proof.answered
        case ClientRefused():
            return Proof.rejected
        case NotNow(evidence, retry_after, throttled):
            is_ours = evidence.status is None and retry_after is not None
            return Proof.nothing if throttled or is_ours else Proof.uncertain
        case OutcomeUnknown():
            return Proof.misdirected if outcome.misdirected else Proof.uncertain
        case _:
            assert_never(outcome)


def observe(client: StoredClient, sighting: Sighting, now: datetime) -> ClientTransition:
    """Return the client after the answer to a refresh or an exchange.

    Race: a request from before the breaker closed last is answered late; it must not open the breaker again.
    """
    is_old = client.closed_at is not None and sighting.sent_at < client.closed_at
    match proof_of(sighting.outcome):
        case Proof.accepted:
            return accept(client, now)
        case Proof.answered:
            return _close(client, now) if client.cause is Cause.unavailable else (replace(client, suspects=()), ())
        case Proof.rejected if not is_old:
            return reject(client, evidence_of(sighting.outcome), now)
        case Proof.misdirected | Proof.uncertain as proof if not is_old and client.cause is None:
            suspects = tuple(dict.fromkeys((*client.suspects, sighting.subject)))
            if proof is Proof.uncertain and len(suspects) < sighting.endpoint.most_uncertain:
                return replace(client, suspects=suspects), ()
            return _open(client, sighting.endpoint.url, evidence_of(sighting.outcome), now)
        case _:
            return client, ()


def accept(client: StoredClient, at: datetime) -> ClientTransition:
    """Close the breaker, because the endpoint answered for a token or code at `at`.

    Race: an answer from before the breaker opened is read only now; it proves nothing.
    """
    if client.opened_at is not None and at < client.opened_at:
        return client, ()
    closed, facts = (client, ()) if client.cause is None else _close(client, at)
    return replace(closed, suspects=(), probes=0), facts


def reject(client: StoredClient, evidence: Evidence, now: datetime) -> ClientTransition:
    """Open the breaker of a client that the endpoint rejects; the event comes with the first rejection only."""
    if client.cause is Cause.rejected:
        return client, ()
    closed, facts = (client, ()) if client.cause is None else _close(client, now)
    opened = _opened(closed, Cause.rejected, evidence, now)
    return opened, (*facts, ClientRejected(client.client_id, opened.error or "", evidence.description))


def begin_probe(client: StoredClient, now: datetime, until: datetime) -> StoredClient | None:
    """Reserve the one probe for the whole fleet until `until`; None if none is due."""
    if client.cause is None or client.paused_at is not None:
        return None
    if client.next_probe_at is None or client.next_probe_at > now:
        return None
    return postpone_probe(client, until)


def postpone_probe(client: StoredClient, until: datetime) -> StoredClient:
    return replace(client, next_probe_at=until, probe_claimed_until=None)


def settle_probe(client: StoredClient, outcome: TokenOutcome, sent_at: datetime, now: datetime) -> ClientTransition:
    """Return the client after the answer to a probe.

    Race: an answer to another request closed the breaker meanwhile; then this one changes nothing.
    """
    if client.cause is None or client.opened_at is None or sent_at < client.opened_at:
        return client, ()
    evidence = evidence_of(outcome)
    match proof_of(outcome):
        case Proof.accepted:
            return _close(client, now)
        case Proof.answered if client.cause is Cause.unavailable or not isinstance(outcome, ScopeRefused):
            return _close(client, now)
        case Proof.rejected if client.cause is Cause.unavailable and evidence.error == "unsupported_grant_type":
            return _close(client, now)
        case Proof.rejected if client.cause is Cause.unavailable:
            return reject(client, evidence, now)
        case _:
            probes = client.probes + 1
            asked = outcome.retry_after if isinstance(outcome, NotNow) and outcome.retry_after else timedelta()
            pause = max(pauses[client.cause].after(probes), min(asked, longest_asked_for))
            seen = replace(client, probes=probes, error=_error_of(evidence), status=evidence.status)
            return postpone_probe(seen, now + pause), ()


def pause(client: StoredClient, now: datetime) -> StoredClient:
    """Keep every token request back until an operator resumes; no probe leaves either."""
    return replace(client, paused_at=client.paused_at or now)


def resume(client: StoredClient, now: datetime) -> StoredClient:
    """End an operator's pause. If the breaker is open all the same, it is probed at once."""
    return replace(client, paused_at=None, next_probe_at=None if client.cause is None else now)


def look_again_at(client: StoredClient, now: datetime) -> datetime:
    """Return when what an open breaker keeps back may try again: just after the next probe."""
    if client.paused_at is not None or client.next_probe_at is None:
        return now + pause_of_operator
    return max(client.next_probe_at, now) + after_probe


def evidence_of(outcome: TokenOutcome) -> Evidence:
    return Evidence() if isinstance(outcome, TokensGranted) else outcome.evidence


def _open(client: StoredClient, endpoint: str, evidence: Evidence, now: datetime) -> ClientTransition:
    opened = replace(_opened(client, Cause.unavailable, evidence, now), endpoint=endpoint)
    return opened, (ProviderUnavailable(client.client_id, endpoint, evidence.status, now),)


def _opened(client: StoredClient, cause: Cause, evidence: Evidence, now: datetime) -> StoredClient:
    probes = client.probes + 1
    opened = replace(
        client,
        cause=cause,
        opened_at=now,
        error=_error_of(evidence),
        status=evidence.status,
        probes=probes,
        suspects=(),
    )
    return postpone_probe(opened, now + pauses[cause].after(probes))


def _close(client: StoredClient, at: datetime) -> ClientTransition:
    """Close an open breaker, with the event that ends the one it opened with."""
    closed = replace(
        client,
        cause=None,
        opened_at=None,
        error=None,
        status=None,
        endpoint=None,
        next_probe_at=None,
        probe_claimed_until=None,
        closed_at=at,
        suspects=(),
    )
    if client.cause is Cause.rejected:
        text = "the token endpoint accepts the client again"
        return closed, (ClientRecovered(client.client_id, client.error or "", text),)
    since = client.opened_at or at
    return closed, (ProviderAvailable(client.client_id, client.endpoint or "", client.status, since),)


def _error_of(evidence: Evidence) -> str:
    return evidence.error or (evidence.description if evidence.status is None else f"http_{evidence.status}")
