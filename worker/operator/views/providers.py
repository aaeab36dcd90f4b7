"""The providers: each OAuth client with its breaker, its hold, and what an operator can do."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from worker.operator.views.sources import Sources

ProviderAction = Literal["pause", "resume", "hold", "release", "accept"]


@dataclass(frozen=True, slots=True)
class ClientView:
    """An OAuth client, or the personal access tokens of a provider.

    state: "closed" (all is well), "rejected", "unavailable" or "paused".
    is_configured: whether the settings have it.
    since: when the state began; None if closed.
    error, status, endpoint: what the provider answered last when it opened the breaker.
    next_probe_at, probes: when the provider is asked again, and how often it was.
    held: how many connections a hold keeps; None for `held_since` if there is no hold.
    held_by_operator: whether an operator holds them; then only an operator ends it.
    next_trial_at: when one held connection is tried.
    sentences: the same as text: why tokens wait, and until when.
    actions: what an operator can do now.
    """

    provider: str
    client_id: str
    state: str
    is_configured: bool
    since: datetime | None
    error: str | None
    status: int | None
    endpoint: str | None
    next_probe_at: datetime | None
    probes: int
    held: int
    held_since: datetime | None
    held_by_operator: bool
    next_trial_at: datetime | None
    sentences: Sequence[str]
    actions: Sequence[ProviderAction]


@dataclass(frozen=True, slots=True)
class ProviderView:
    """A provider: its profile's limits, its budget now, and its clients.

    token_requests: token requests of the last minute, by the whole fleet.
    token_requests_allowed: None for no limit.
    paused_until: until when a 429 of its token endpoint stops them.
    """

    name: str
    is_configured: bool
    token_url: str | None
    api_url: str | None
    token_requests: int
    token_requests_allowed: int | None
    paused_until: datetime | None
    api_requests_allowed: int | None
    clients: Sequence[ClientView]
    actions: Sequence[ProviderAction]


@dataclass(frozen=True, slots=True)
class ProvidersView:
    now: datetime
    providers: Sequence[ProviderView]


def load_providers(sources: Sources) -> ProvidersView:
    """Load every provider that is configured, or has a client in the database."""
    raise NotImplementedError
