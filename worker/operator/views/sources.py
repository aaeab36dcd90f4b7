"""Where the views come from: the database, Redis, and what the settings say of the providers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from models.oauth.client import StoredClient
from models.provider import Provider
from models.queue import Queues
from models.store import Store
from worker.operator.views.kept import Figures


@dataclass(frozen=True, slots=True)
class Sources:
    """What every view is loaded from.

    store: the database.
    queues: the queues in Redis, and a client that decodes its answers.
    providers: the profiles, by name.
    client_ids: the OAuth clients in the settings, by provider.
    streams: the keys of the streams: events, records and commands.
    figures: what is counted over the whole database, kept for a while.
    """

    store: Store
    queues: Queues
    providers: Mapping[str, Provider]
    client_ids: Mapping[str, frozenset[str]]
    streams: tuple[str, ...]
    figures: Figures = field(default_factory=Figures)

    def describes(self, client: StoredClient) -> bool:
        """Return whether the settings have this client."""
        return client.client_id in self.client_ids.get(client.provider, frozenset())
