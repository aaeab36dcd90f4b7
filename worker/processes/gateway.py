"""The gateway process."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

from starlette.applications import Starlette
from starlette.types import ASGIApp

from config.exposition import Exposition
from config.logs import configure_logging
from config.settings import Settings
from config.stopping import exit_within
from config.version import read_version
from config.wiring import Services, open_hasty_redis, open_services
from models.crypto.vault import Vault
from models.queue import WritableRedis
from worker.gateway.app import Shell, build_gateway_app
from worker.gateway.desk import Desk
from worker.gateway.door import Door
from worker.gateway.office import Office
from worker.gateway.openapi import describe as describe_gateway
from worker.gateway.transport import AsyncRouted
from worker.metrics.catalog import in_gateway
from worker.metrics.counters import Metrics
from worker.processes.settings import read_or_exit
from worker.provider.rate_limit import Budgets
from worker.startup import open_vault
from worker.tracing.spans import Traces
from worker.tracing.start import start_tracing
from worker.web.protocol import Bounds, harden_caller

gateway_bounds = Bounds(
    head=32_768, request_time=60, response_time=75, idle_time=60, connections=1_000, all_connections=1_000
)
"""Of the gateway's listener: its clients are servers, which keep connections open and send long bodies."""
gateway_stop_seconds = 22
"""How long calls that are under way may take after SIGTERM; then they are cut."""


def build_gateway(
    settings: Settings, services: Services, metrics: Metrics, vault: Vault, traces: Traces | None = None
) -> tuple[ASGIApp, Office]:
    """Return the gateway's application, and what is to be closed after its last call."""
    traces = traces or Traces()
    desk = Desk(
        store=services.store,
        vault=vault,
        providers={provider.name: provider for provider in settings.providers},
        budgets=Budgets(open_hasty_redis(settings.redis_url, repeats_what_timed_out=False)),
        send=services.queue.send,
        now=services.now,
    )
    office = Office(desk, AsyncRouted(settings.proxies))
    redis = WritableRedis(open_hasty_redis(settings.redis_url))
    checks: dict[str, Callable[[], object]] = {"database": services.store.check, "redis": redis}
    door = Door(settings.gateway_keys, office, metrics)
    shell = Shell(office, door, checks, describe_gateway(read_version()), metrics, traces)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        exit_within(timedelta(seconds=5))
        await office.aclose()
        traces.close()

    return build_gateway_app(shell, lifespan), office


def gateway() -> ASGIApp:
    """Build the gateway's application."""
    configure_logging()
    settings = read_or_exit("keys", "gateway")
    harden_caller(gateway_bounds, stop_seconds=gateway_stop_seconds)
    traces = start_tracing("gateway", read_version())
    services = replace(open_services(settings, "gateway"), traceparent=traces.traceparent)
    metrics = Metrics(families=in_gateway, exemplar=traces.exemplar)
    if settings.metrics_address is not None:
        Exposition(settings.metrics_address, metrics.registry).start()
    services.now.watch()
    app, _ = build_gateway(settings, services, metrics, open_vault(settings), traces)
    return app
