"""Builds the operator's page and API from the settings."""

from starlette.routing import BaseRoute

from config.settings import Settings
from config.version import read_version
from config.wiring import Services, open_hasty_redis
from models.audit.entry import Channel
from models.crypto.secrets import Secret
from models.queue import Queues
from models.store import Store
from worker.operator.actions import Actions, actors
from worker.operator.app import Site, build_operator_routes
from worker.operator.pages import HtmlPages
from worker.operator.sign_in import SignIns
from worker.operator.views.figures import FleetFigures
from worker.operator.views.sources import Sources


def build_page(settings: Settings, services: Services, token: Secret) -> list[BaseRoute]:
    """Return the routes of the operator's page and API."""
    store = services.store
    queues = Queues(services.broker, open_hasty_redis(settings.redis_url))
    providers = {provider.name: provider for provider in settings.providers}
    configured = [(client.provider, client.client_id) for client in settings.registrations]
    client_ids = {name: frozenset(own for of, own in configured if of == name) for name in providers}
    sources = Sources(
        store=store,
        queues=queues,
        providers=providers,
        client_ids=client_ids,
        streams=(settings.events_stream, settings.records_stream, settings.commands_stream),
        figures=FleetFigures(store),
        version=read_version(),
    )

    def act(channel: Channel) -> Actions:
        own_store = Store(store.engine, actors[channel])
        return Actions(own_store, queues, services.queue.send, providers, client_ids, channel)

    sign_ins = SignIns(token, Store(store.engine, actors[Channel.page]), services.now)
    pages = HtmlPages()
    return build_operator_routes(
        Site(sources, sign_ins, act(Channel.page), act(Channel.api), pages, settings.trusted_proxies)
    )
