"""Our OAuth clients: as a request uses one, and as the database knows it, when it is rejected and how it recovers."""

from dataclasses import dataclass, replace
from datetime import datetime

from models.crypto.secrets import Sealed, Secret
from models.messaging.events import About, ClientRecovered, ClientRejected, Fact
from models.oauth.refresh_policy import client_pause
from models.oauth.token_response import Evidence
from models.provider import Provider


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthClient:
    """Who we are to a provider (RFC 6749 §2.2), and the one address to which it redirects its users."""

    provider: str
    client_id: str
    client_secret: Secret
    redirect_uri: str


def callback_path(provider: str) -> str:
    """Return the path at which the web process waits for a provider's redirect, behind any path prefix of a proxy."""
    return f"/auth/{provider}/callback"


@dataclass(frozen=True, slots=True)
class StoredClient:
    """A row of the client table.

    provider, client_id: which client this is.
    secret: the client secret, sealed; None if it was never stored.
    omit_refresh_scope: whether its refreshes send no scope, because the provider refused the one we sent.
    rejected_at: since when the token endpoint rejects the client; None if it does not.
    rejected_error: the error that the endpoint gave.
    probes: how many requests have tried the rejected client in vain.
    paused_until: no refresh leaves before then; after that, one request at a time tries the client.
    probing_until: how long the request that tries the client now keeps the others waiting.
    """

    provider: str
    client_id: str
    secret: Sealed | None = None
    omit_refresh_scope: bool = False
    rejected_at: datetime | None = None
    rejected_error: str | None = None
    probes: int = 0
    paused_until: datetime | None = None
    probing_until: datetime | None = None

    @property
    def is_rejected(self) -> bool:
        return self.rejected_at is not None

    @property
    def about(self) -> About:
        return About(self.provider, other_subject=f"client/{self.client_id}")


ClientTransition = tuple[StoredClient, tuple[Fact, ...]]


def reject_client(client: StoredClient, evidence: Evidence, now: datetime) -> ClientTransition:
    """Pause a client that the token endpoint rejects; the event comes with the first rejection only.

    More rejections during a pause change nothing: those requests left before it, or a user waits for them.
    """
    if client.paused_until is not None and client.paused_until > now:
        return client, ()
    error = evidence.error or f"http_{evidence.status}"
    rejected = replace(
        client,
        rejected_at=client.rejected_at or now,
        rejected_error=error,
        probes=client.probes + 1,
        paused_until=now + client_pause(client.probes),
        probing_until=None,
    )
    facts = () if client.is_rejected else (ClientRejected(client.client_id, error, evidence.description),)
    return rejected, facts


def predates_rejection(client: StoredClient, accepted_at: datetime) -> bool:
    """Whether the client was accepted before it was rejected; an answer that is read this late proves nothing."""
    return client.rejected_at is not None and accepted_at < client.rejected_at


def recover_client(client: StoredClient, accepted_at: datetime) -> ClientTransition:
    """End the pause of a client that the token endpoint accepted at `accepted_at`; change nothing if there is none."""
    if not client.is_rejected or predates_rejection(client, accepted_at):
        return client, ()
    recovered = replace(client, rejected_at=None, rejected_error=None, probes=0, paused_until=None, probing_until=None)
    error = client.rejected_error or ""
    return recovered, (ClientRecovered(client.client_id, error, "the token endpoint takes the client again"),)


def may_be_probed(client: StoredClient, now: datetime) -> bool:
    """Whether one request may try this rejected client now: its pause is over, and no other request tries it."""
    if client.paused_until is None or client.paused_until > now:
        return False
    return client.is_rejected and (client.probing_until is None or client.probing_until <= now)


def begin_probe(client: StoredClient, now: datetime, until: datetime) -> StoredClient | None:
    """Reserve the one request that tries a rejected client until `until`; None if the client may not be tried now."""
    return replace(client, probing_until=until) if may_be_probed(client, now) else None


def refresh_scope(client: StoredClient | None, provider: Provider) -> str:
    """Return the scope to send with a refresh; empty for none."""
    return "" if client is not None and client.omit_refresh_scope else provider.refresh_scope
