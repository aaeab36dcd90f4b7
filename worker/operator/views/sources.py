"""Where the views come from: the database, Redis, and what the settings say of the providers."""

from collections.abc import Mapping
from dataclasses import dataclass

from models.errors import RedisUnavailable
from models.provider import Provider
from models.queue import Queues, WritableRedis
from models.store import Store
from worker.operator.views.figures import FleetFigures


@dataclass(frozen=True, slots=True)
class Sources:
    """What every view is loaded from.

    store: the database.
    queues: the queues in Redis, and a client that decodes its answers.
    providers: the profiles, by name.
    client_ids: the OAuth clients in the settings, by provider.
    streams: the keys of the streams: events, records and commands.
    figures: what is counted over the whole database, kept for a while.
    version: of this process.
    """

    store: Store
    queues: Queues
    providers: Mapping[str, Provider]
    client_ids: Mapping[str, frozenset[str]]
    streams: tuple[str, ...]
    figures: FleetFigures
    version: str

    def redis_trouble(self) -> str | None:
        """Return why Redis can't be used, None if it takes writes."""
        try:
            WritableRedis(self.queues.client)()
        except RedisUnavailable as error:
            return str(error)
        return None
