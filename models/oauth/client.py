"""Our OAuth clients: as a request uses one, and as the database knows it with the breaker of its token endpoint."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from urllib.parse import urlsplit

from models.crypto.secrets import Sealed, Secret
from models.messaging.events import About
from models.provider import Provider


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """Who we are to a provider (RFC 6749 §2), and the one address to which it redirects its users."""

    provider: str
    client_id: str
    redirect_uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthClient(Registration):
    """A registration with its secret, by which a token request is authenticated."""

    client_secret: Secret


def callback_path(provider: str) -> str:
    """Return the path at which the web process waits for a provider's redirect, behind any path prefix of a proxy."""
    return f"/auth/{provider}/callback"


def find_path_prefix(client: Registration) -> str:
    """Return what a proxy puts before the paths of the web process, by the client's redirect URI; often nothing."""
    return urlsplit(client.redirect_uri).path.removesuffix(callback_path(client.provider))


class Cause(StrEnum):
    """Why a breaker is open."""

    rejected = "rejected"
    """The token endpoint answers, and rejects our client."""
    unavailable = "unavailable"
    """The token endpoint gives no certain answer."""


@dataclass(frozen=True, slots=True)
class StoredClient:
    """A row of the client table: a client, and the breaker between its connections and the token endpoint.

    provider, client_id: which client this is.
    secret: the client secret, sealed; None if it was never stored.
    omit_refresh_scope: whether its refreshes send no scope, because the provider refused the one we sent.
    cause: why the breaker is open; None if it is closed.
    opened_at: since when it is open.
    error: the error that the endpoint gave last, or what came instead of an answer.
    status: the HTTP status of that answer; None if none came.
    endpoint: the URL of the endpoint when the breaker opened.
    probes: how many answers in a row have shown the trouble: the one that opened it, and each probe since. A probe that
        closes the breaker leaves the number as it is; only a token that is answered for sets it to 0.
    next_probe_at: when the next probe is due; while one is under way, when another may follow it.
    probe_claimed_until: until when the sweep sends no message for a probe, because one is on its way.
    closed_at: when it closed last; an answer to a request from before then does not open it.
    suspects: the connections and authorizations whose requests got no certain answer since the last one.
    paused_at: since when an operator keeps every token request of this client back; None if not.
    """

    provider: str
    client_id: str
    secret: Sealed | None = None
    omit_refresh_scope: bool = False
    cause: Cause | None = None
    opened_at: datetime | None = None
    error: str | None = None
    status: int | None = None
    endpoint: str | None = None
    probes: int = 0
    next_probe_at: datetime | None = None
    probe_claimed_until: datetime | None = None
    closed_at: datetime | None = None
    suspects: tuple[str, ...] = ()
    paused_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether no refresh may leave."""
        return self.cause is not None or self.paused_at is not None

    @property
    def is_rejected(self) -> bool:
        return self.cause is Cause.rejected

    @property
    def keeps_codes(self) -> bool:
        """Whether no code may leave. A rejected client spends none, and the user who waits is told at once."""
        return self.cause is Cause.unavailable or self.paused_at is not None

    @property
    def about(self) -> About:
        return About(self.provider, other_subject=f"client/{self.client_id}")


def refresh_scope(client: StoredClient | None, provider: Provider) -> str:
    """Return the scope to send with a refresh; empty for none."""
    return "" if client is not None and client.omit_refresh_scope else provider.refresh_scope
