"""`breezesync provider`: the breakers of the OAuth clients, and an operator's pause."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated

import typer

from config.settings import Settings
from config.wiring import now
from models.oauth.breaker import pause as pause_client
from models.oauth.breaker import resume as resume_client
from models.oauth.client import StoredClient
from worker.cli.context import load_settings, opened_store
from worker.cli.output import AsJson, NotFound, make_table, print_json, print_line, print_rich, report_errors

ProviderName = Annotated[str, typer.Argument(metavar="NAME", help="The provider's name, as in PROVIDERS.")]


def state_of(client: StoredClient) -> str:
    """Return closed, rejected, unavailable or paused."""
    if client.paused_at is not None:
        return "paused"
    return "closed" if client.cause is None else client.cause.value


def describe_client(client: StoredClient) -> Mapping[str, object]:
    """Return what an operator may know of a client: never its secret."""
    return {
        "provider": client.provider,
        "client_id": client.client_id,
        "state": state_of(client),
        "since": client.paused_at or client.opened_at,
        "error": client.error,
        "status": client.status,
        "next_probe_at": client.next_probe_at,
        "probes": client.probes,
    }


@report_errors
def status(as_json: AsJson = False) -> None:
    """Show each OAuth client with its breaker."""
    with opened_store(load_settings()) as store, store.reading() as tx:
        shown = [describe_client(client) for client in tx.clients.all()]
    if as_json:
        print_json(shown)
        return
    head = ("provider", "client_id", "state", "since", "error", "status", "next_probe_at", "probes")
    print_rich(make_table([name.replace("_", " ") for name in head], [[row[name] for name in head] for row in shown]))


@report_errors
def pause(name: ProviderName, as_json: AsJson = False) -> None:
    """Send no token request to a provider until it is resumed."""
    _change(name, pause_client, as_json)


@report_errors
def resume(name: ProviderName, as_json: AsJson = False) -> None:
    """End an operator's pause."""
    _change(name, resume_client, as_json)


def _change(name: str, change: Callable[[StoredClient, datetime], StoredClient], as_json: bool) -> None:
    settings = load_settings()
    with opened_store(settings) as store, store.writing() as tx:
        ids = {client.client_id for client in tx.clients.all(name)} | _configured(settings, name)
        if not ids:
            raise NotFound(f"There is no provider {name}. List them with breezesync provider status.")
        changed = []
        for client_id in sorted(ids):
            client = change(tx.clients.lock(name, client_id), now())
            tx.clients.save(client)
            changed.append(client)
    if as_json:
        print_json([describe_client(client) for client in changed])
        return
    for client in changed:
        print_line(f"{client.provider} {client.client_id}: {state_of(client)}")


def _configured(settings: Settings, name: str) -> set[str]:
    return {client.client_id for client in settings.clients if client.provider == name}
