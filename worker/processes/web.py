"""The web process, which serves the operator beside the public, and the operator process."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta

from starlette.applications import Starlette
from starlette.types import ASGIApp, Lifespan

from config.logs import configure_logging
from config.settings import Settings
from config.stopping import exit_within
from config.version import read_version
from config.wiring import Services, open_hasty_redis, open_services
from models.crypto.sealed_box import Sealer
from models.queue import WritableRedis
from worker.page import build_page
from worker.processes.settings import read_or_exit
from worker.tracing.spans import Traces
from worker.tracing.start import start_tracing
from worker.web.app import build_app
from worker.web.callback import Callback
from worker.web.guard import Allowance
from worker.web.hooks import Hooks
from worker.web.listener import AddressUnusable, listen_at, serving_beside
from worker.web.metrics import build_registry
from worker.web.operator import build_operator_app
from worker.web.protocol import Bounds, harden_caller


def build_web(
    settings: Settings,
    services: Services,
    lifespan: Lifespan[Starlette] | None = None,
    traces: Traces | None = None,
) -> ASGIApp:
    """Return the public application with what it depends on; it has no key that opens anything."""
    if settings.sealing_key is None:
        raise AssertionError("the web process was started without a sealing key")
    callback = Callback(
        store=services.store,
        sealer=Sealer(settings.sealing_key),
        providers={provider.name: provider for provider in settings.providers},
        clients={client.provider: client for client in reversed(settings.registrations)},
        connect_secrets=settings.connect_secrets,
        return_origins=settings.return_origins,
        send=services.queue.send,
        now=services.now,
        confirmation=settings.confirmation,
        app_name=settings.app_name,
    )
    hooks = Hooks(services.store, callback.providers, settings.hooks, services.queue.send, services.now)
    return build_app(callback, Allowance(proxies=settings.trusted_proxies), lifespan, hooks, traces or Traces())


def build_operator(settings: Settings, services: Services) -> ASGIApp:
    """Return the operator's application with what it depends on."""
    store = services.store

    def check_database() -> None:
        with store.reading() as tx:
            tx.overview.time()

    checks: dict[str, Callable[[], object]] = {
        "database": check_database,
        "schema": store.check,
        "redis": WritableRedis(open_hasty_redis(settings.redis_url)),
    }
    registry = build_registry(store, services.now, services.queues.depths, services.now.offset)
    token = settings.operator_token
    return build_operator_app(checks, registry, [] if token is None else build_page(settings, services, token))


def web() -> ASGIApp:
    """Build the public application, and the operator's, which is served beside it."""
    configure_logging()
    settings = read_or_exit("sealing", "registrations", "links")
    harden_caller(Bounds(proxies=settings.trusted_proxies))
    listener = listen_or_exit(settings)
    traces = start_tracing("web", read_version())
    services = replace(open_services(settings, "web"), traceparent=traces.traceparent)
    services.now.watch()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        with ExitStack() as stack:
            if listener is not None:
                stack.enter_context(serving_beside(build_operator(settings, services), listener))
            yield
            exit_within(timedelta(seconds=5))  # a request that is under way may hang
            traces.close()

    return build_web(settings, services, lifespan, traces)


def operator() -> ASGIApp:
    """Build the operator's application alone."""
    configure_logging()
    settings = read_or_exit()
    harden_caller(Bounds())
    services = open_services(settings, "operator")
    services.now.watch()
    return build_operator(settings, services)


def listen_or_exit(settings: Settings) -> socket.socket | None:
    """Return the operator's listener, None if there is to be none; or end the process with 1 and the remedy."""
    address = settings.operator_address
    if address is None:
        return None
    try:
        return listen_at(address.host, address.port)
    except AddressUnusable as reason:
        raise SystemExit(
            f"OPERATOR_ADDRESS: {reason}. Stop it, set OPERATOR_ADDRESS to another HOST:PORT, or to nothing for none."
        ) from None
