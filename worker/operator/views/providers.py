"""The providers: each OAuth client with its breaker, its hold, and what an operator can do."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from models.oauth.client import StoredClient
from models.oauth.hold import Hold
from models.oauth.token_rate_limit import Pace, count_allowed, count_taken
from models.provider import Provider
from models.store import Transaction
from worker.operations.clients import state_of
from worker.operations.next_steps import describe_breaker, describe_hold
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
    held: how many connections a hold keeps.
    held_since: when the hold began; None if there is none.
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

    token_url, api_url, api_requests_allowed: of its profile; None if the settings do not have it.
    token_requests: token requests of the last minute, by the whole fleet.
    token_requests_allowed: how many the profile allows in a minute; None for no limit.
    paused_until: until when a 429 of its token endpoint stops them; None if none does.
    actions: what an operator can do with all its clients.
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
    with sources.store.reading() as tx:
        now = tx.overview.time()
        return ProvidersView(now, read_providers(sources, tx, now))


def read_providers(sources: Sources, tx: Transaction, now: datetime) -> Sequence[ProviderView]:
    """Return the providers by name; in one transaction, with a count for each client that has a hold."""
    clients = {(each.provider, each.client_id): each for each in tx.clients.all()}
    holds = {(each.provider, each.client_id): each for each in tx.refusals.holds()}
    configured = {(name, client_id) for name, ids in sources.client_ids.items() for client_id in ids}
    views = []
    for provider, client_id in sorted({*clients, *holds, *configured}):
        client = clients.get((provider, client_id)) or StoredClient(provider, client_id)
        hold = holds.get((provider, client_id))
        held = 0 if hold is None else tx.refusals.count_held(provider, client_id)
        views.append(_view_of(client, hold, held, (provider, client_id) in configured, now))
    names = {view.provider for view in views} | set(sources.providers)
    return [_of_provider(name, sources.providers.get(name), tx.paces.get(name), views, now) for name in sorted(names)]


def _view_of(client: StoredClient, hold: Hold | None, held: int, is_configured: bool, now: datetime) -> ClientView:
    sentences = describe_breaker(client, now) if client.is_open else []
    return ClientView(
        provider=client.provider,
        client_id=client.client_id,
        state=state_of(client),
        is_configured=is_configured,
        since=client.paused_at or client.opened_at,
        error=client.error,
        status=client.status,
        endpoint=client.endpoint,
        next_probe_at=client.next_probe_at,
        probes=client.probes,
        held=held,
        held_since=None if hold is None else hold.opened_at,
        held_by_operator=hold is not None and hold.by_operator,
        next_trial_at=None if hold is None else hold.next_trial_at,
        sentences=[*sentences, *([] if hold is None else [describe_hold(hold, held, now)])],
        actions=choose_actions(client, hold),
    )


def choose_actions(client: StoredClient, hold: Hold | None) -> Sequence[ProviderAction]:
    """Return what an operator can do with a client."""
    found: list[ProviderAction] = ["pause" if client.paused_at is None else "resume"]
    if hold is None or not hold.by_operator:
        found.append("hold")
    if hold is not None:
        found += ["release", "accept"]
    return found


def _of_provider(
    name: str, profile: Provider | None, pace: Pace, views: Sequence[ClientView], now: datetime
) -> ProviderView:
    own = [view for view in views if view.provider == name]
    per_minute = 0 if profile is None else profile.token_requests_per_minute
    return ProviderView(
        name=name,
        is_configured=profile is not None,
        token_url=None if profile is None else profile.token_url,
        api_url=None if profile is None else profile.api_url,
        token_requests=count_taken(pace, now),
        token_requests_allowed=count_allowed(per_minute, "exchange"),
        paused_until=pace.paused_until if pace.paused_until is not None and pace.paused_until > now else None,
        api_requests_allowed=None if profile is None else profile.api_requests_per_minute,
        clients=own,
        actions=[action for action in _order if any(action in view.actions for view in own)],
    )


_order: tuple[ProviderAction, ...] = ("pause", "resume", "hold", "release", "accept")
