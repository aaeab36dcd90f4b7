"""`breezesync provider`: the breakers and holds of the OAuth clients, and what an operator decides about them."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

import typer

from config.settings import Settings
from models.audit.entry import Action
from models.oauth.breaker import pause as pause_client
from models.oauth.breaker import resume as resume_client
from models.oauth.client import StoredClient
from worker.cli.context import load_settings, opened_store
from worker.cli.output import (
    AsJson,
    CommandFailed,
    NotFound,
    make_table,
    print_json,
    print_line,
    print_rich,
    report_errors,
)
from worker.oauth.hold import HoldByOperator
from worker.operations.clients import change_clients, decide_holds, describe_client, state_of

ProviderName = Annotated[str, typer.Argument(metavar="NAME", help="The provider's name, as in PROVIDERS.")]


@report_errors
def status(as_json: AsJson = False) -> None:
    """Show each OAuth client with its breaker."""
    with opened_store(load_settings()) as store, store.reading() as tx:
        shown = [describe_client(client, tx) for client in tx.clients.all()]
    if as_json:
        print_json(shown)
        return
    head = (
        "provider",
        "client_id",
        "state",
        "since",
        "error",
        "status",
        "next_probe_at",
        "probes",
        "held",
        "held_since",
    )
    print_rich(make_table([name.replace("_", " ") for name in head], [[row[name] for name in head] for row in shown]))


@report_errors
def pause(name: ProviderName, as_json: AsJson = False) -> None:
    """Send no token request to a provider until it is resumed."""
    _change(name, pause_client, Action.provider_paused, as_json)


@report_errors
def resume(name: ProviderName, as_json: AsJson = False) -> None:
    """End an operator's pause."""
    _change(name, resume_client, Action.provider_resumed, as_json)


@report_errors
def hold(name: ProviderName, as_json: AsJson = False) -> None:
    """Hold refused connections: tokens stay, and no user is told, until release or accept."""
    _decide(name, "held", HoldByOperator.hold, as_json)


@report_errors
def release(name: ProviderName, as_json: AsJson = False) -> None:
    """Try every held connection again."""
    _decide(name, "released", HoldByOperator.release, as_json)


@report_errors
def accept(name: ProviderName, as_json: AsJson = False) -> None:
    """End every held connection, and tell each user to authorize again."""
    _decide(name, "accepted", HoldByOperator.accept, as_json)


def _decide(name: str, verb: str, act: Callable[[HoldByOperator, str], int | None], as_json: bool) -> None:
    settings = load_settings()
    profile = settings.provider(name)
    if profile is None:
        raise NotFound(f"There is no provider {name}. List them with breezesync provider status.")
    with opened_store(settings) as store:
        found = decide_holds(store, profile, _configured(settings, name), act)
    if not found:
        raise CommandFailed(f"Nothing of {name} is held.")
    if as_json:
        print_json([{"provider": name, "client_id": client_id, verb: count} for client_id, count in found.items()])
        return
    for client_id, count in found.items():
        print_line(f"{name} {client_id}: {count} connections {verb}")


def _change(name: str, change: Callable[[StoredClient, datetime], StoredClient], action: Action, as_json: bool) -> None:
    settings = load_settings()
    with opened_store(settings) as store, store.writing() as tx:
        changed = change_clients(tx, name, _configured(settings, name), change, action)
        if not changed:
            raise NotFound(f"There is no provider {name}. List them with breezesync provider status.")
        shown = [describe_client(client, tx) for client in changed]
    if as_json:
        print_json(shown)
        return
    for client in changed:
        print_line(f"{client.provider} {client.client_id}: {state_of(client)}")


def _configured(settings: Settings, name: str) -> set[str]:
    return {client.client_id for client in settings.clients if client.provider == name}
