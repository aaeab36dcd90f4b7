"""What the flows are built from, and the flows: for a worker, and for a command that connects an account."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from config.settings import Settings
from config.wiring import Services, open_hasty_redis, open_redis, stream_settings
from models.crypto.vault import Vault
from models.messaging.messages import Message
from worker.actors import Flows
from worker.calls.carry_out import CarryOutCall
from worker.calls.kept_answers import KeptAnswers
from worker.metrics.counters import Metrics
from worker.oauth.confirm import Confirm
from worker.oauth.disconnect import Disconnect
from worker.oauth.exchange import Exchange
from worker.oauth.probe_client import ProbeClient
from worker.oauth.recover_tokens import RecoverTokens
from worker.oauth.refresh import Refresh
from worker.oauth.revoke import Revoke
from worker.provider.client import ProviderClient
from worker.provider.rate_limit import Budgets
from worker.queue.publish import PublishEvents
from worker.queue.publisher import Publisher
from worker.startup import open_vault
from worker.sync.run import Sync
from worker.sync.user import SyncUser
from worker.tokens.oauth_clients import OAuthClients
from worker.tokens.spool import Parking
from worker.tracing.spans import Traces
from worker.webhooks.deliver import DeliverWebhooks


@dataclass(frozen=True, slots=True)
class Parts:
    """What the flows, the web application and the command line are built from, each of it once in a process."""

    settings: Settings
    services: Services
    vault: Vault
    clients: OAuthClients
    providers: Mapping[str, ProviderClient]
    parking: Parking
    publish: PublishEvents
    publisher: Publisher
    metrics: Metrics

    @property
    def send(self) -> Callable[[Message], None]:
        return self.publisher.send


def build_parts(
    settings: Settings, services: Services, metrics: Metrics | None = None, traces: Traces | None = None
) -> Parts:
    """Build what depends on keys and providers; nothing is connected to yet."""
    vault = open_vault(settings)
    metrics, traces = metrics or Metrics(), traces or Traces()
    publish = PublishEvents(services.store, services.redis, stream_settings(settings), services.now, metrics)
    budgets = Budgets(open_hasty_redis(settings.redis_url, repeats_what_timed_out=False))
    return Parts(
        settings=settings,
        services=services,
        vault=vault,
        clients=OAuthClients(services.store, vault, settings.clients),
        providers={
            provider.name: ProviderClient(
                provider, services.now, budgets, proxies=settings.proxies, metrics=metrics, traces=traces
            )
            for provider in settings.providers
        },
        parking=Parking(vault, open_redis(settings.redis_url, decode=False), settings.spool),
        publish=publish,
        publisher=Publisher(publish, services.queue.send),
        metrics=metrics,
    )


def build_flows(parts: Parts) -> Flows:
    """Return the flows with what they depend on."""
    store, vault, clients, providers = parts.services.store, parts.vault, parts.clients, parts.providers
    parking, send, settings, now = parts.parking, parts.send, parts.settings, parts.services.now
    metrics = parts.metrics
    answers = KeptAnswers(vault, parking.redis)
    return Flows(
        exchange=Exchange(store, vault, clients, providers, parking, send, now),
        confirm=Confirm(store, send, now),
        refresh=Refresh(store, vault, clients, providers, parking, send, now, settings.sync_interval, metrics),
        sync=Sync(store, vault, providers, send, now, settings.sync_interval, metrics=metrics),
        sync_user=SyncUser(store, send, now),
        disconnect=Disconnect(store, vault, providers, parking, send, now, answers.drop),
        revoke=Revoke(store, vault, clients, providers, send, now),
        probe_client=ProbeClient(store, clients, providers, send, now),
        recover_tokens=RecoverTokens(store, vault, clients, providers, parking, send, now),
        call=CarryOutCall(store, vault, providers, send, now, answers, metrics),
        publish=parts.publish,
        deliver_webhooks=DeliverWebhooks(store, vault, now, settings.proxies, metrics),
    )
