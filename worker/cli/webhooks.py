"""`breezesync webhooks`: the endpoints that events are sent to over HTTP."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic
from typing import Annotated
from urllib.parse import urlsplit

import httpx
import typer

from config.durations import parse_duration
from config.settings import Settings
from config.wiring import now
from models.crypto.errors import KeyServiceUnavailable
from models.crypto.secrets import Secret
from models.crypto.vault import VaultError
from models.store import Store
from models.store.webhooks import Load
from models.webhooks.address import UrlRefused, check_url
from models.webhooks.endpoint import Endpoint, find_unknown, name_pattern, overlap
from models.webhooks.outcome import Away, Delivered, Gone, describe
from worker.cli.context import load_settings, opened_store
from worker.cli.output import (
    AsJson,
    CommandFailed,
    NotFound,
    WrongUsage,
    make_table,
    print_json,
    print_line,
    print_rich,
    report_errors,
)
from worker.operations.dead_letters import retry_letters
from worker.operations.event_lines import event_types
from worker.startup import open_vault
from worker.webhooks.deliver import DeliverWebhooks
from worker.webhooks.endpoints import Endpoints, NameTaken
from worker.webhooks.sending import Sender, make_trial
from worker.webhooks.states import States

EndpointName = Annotated[str, typer.Argument(metavar="NAME", help="The endpoint's name.")]
usual_overlap = f"{overlap.total_seconds() / 3600:.0f}h"


@report_errors
def webhooks(context: typer.Context, as_json: AsJson = False) -> None:
    """List the endpoints that events are sent to, how well that works, and what waits for each."""
    if context.invoked_subcommand is not None:
        return
    with opened_store(load_settings()) as store, store.reading() as tx:
        loads = tx.webhooks.loads()
        shown = [_describe(endpoint, loads.get(endpoint.id, Load())) for endpoint in tx.webhooks.all()]
    if as_json:
        print_json(shown)
    elif not shown:
        print_line("There is no endpoint. Add one with breezesync webhooks add URL.")
    else:
        head = ("name", "url", "types", "state", "waiting", "waits_since", "dead_letters", "error")
        rows = [[", ".join(row[n]) if n == "types" else row[n] for n in head] for row in shown]  # type: ignore[arg-type]
        print_rich(make_table([each.replace("_", " ") for each in head], rows))


@report_errors
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where to send events: https.")],
    types: Annotated[
        list[str] | None,
        typer.Option(
            help="Types of events, comma-separated or repeated: a type, how it begins (connection), or a pattern "
            "(record.*). By default all."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What to call it; by default the URL's host.")] = None,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="It may be in a private network, and speak http.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Add an endpoint, and print the secret that signs what it is sent. Events from now on are sent to it."""
    wanted = tuple(dict.fromkeys(each.strip() for text in types or ["*"] for each in text.split(",") if each.strip()))
    _check(url, wanted, allow_private)
    chosen = name or urlsplit(url).hostname or ""
    if not re.fullmatch(name_pattern, chosen):
        raise WrongUsage("--name has to be 1 to 64 letters, digits, dots, '-' and '_'.")
    with _opened() as (_, endpoints):
        try:
            made, secret = endpoints.add(chosen, url, wanted, allow_private)
        except NameTaken:
            raise CommandFailed(f"There is an endpoint {chosen} already. Choose another name with --name.") from None
    _show_secret(made, secret, as_json)


@report_errors
def test(name: EndpointName, as_json: AsJson = False) -> None:  # noqa: PT028 - a command
    """Send an endpoint one signed delivery of type webhook.test from here, and show its answer."""
    with _opened() as (settings, endpoints):
        endpoint = _find(endpoints.store, name)
        flow = DeliverWebhooks(endpoints.store, endpoints.vault, now, settings.proxies)
        sender = Sender(endpoint, settings.proxies, now, httpx.create_ssl_context())
        started = monotonic()
        try:
            outcome = sender.send(make_trial(now()), flow.open(endpoint))
        finally:
            sender.close()
        took = round((monotonic() - started) * 1000)
    error = None if isinstance(outcome, Delivered) else describe(outcome)
    status = 410 if isinstance(outcome, Gone) else outcome.status
    if as_json:
        report = {"name": name, "url": endpoint.url, "status": status or None, "duration_ms": took, "error": error}
        print_json(report)
    elif error is None:
        print_line(f"{endpoint.url} answered HTTP {status} in {took} ms.")
    if error is not None:
        how = "did not take it" if status else "does not answer"
        hint = "" if not isinstance(outcome, Away) or status else " Check the URL, its certificate and the network."
        raise CommandFailed(f"{endpoint.url} {how} ({error}; {took} ms).{hint}")


@report_errors
def rotate(
    name: EndpointName,
    length: Annotated[
        str, typer.Option("--overlap", metavar="LENGTH", help="For how long the secret before signs as well.")
    ] = usual_overlap,
    as_json: AsJson = False,
) -> None:
    """Replace an endpoint's secret, and print the new one. For a day both sign what is sent."""
    with _opened() as (_, endpoints):
        rotated = endpoints.rotate(name, _read_length(length))
    if rotated is None:
        raise _unknown(name)
    _show_secret(*rotated, as_json)


@report_errors
def pause(name: EndpointName, as_json: AsJson = False) -> None:
    """Send an endpoint nothing until it is resumed. Events wait."""
    _change(name, States.pause, "Paused. Its events wait.", as_json)


@report_errors
def resume(name: EndpointName, as_json: AsJson = False) -> None:
    """Send an endpoint what has waited, also after it answered 410."""
    _change(name, States.resume, "Resumed.", as_json)


@report_errors
def retry(
    name: EndpointName,
    dead_letters: Annotated[
        bool, typer.Option("--dead-letters", help="Also send its dead letters again: each has three days again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send an endpoint at once what waits for its next attempt."""
    with opened_store(load_settings()) as store:
        if _find(store, name).paused_at is not None:
            raise CommandFailed(f"{name} is paused, so nothing is sent. Resume it: breezesync webhooks resume {name}")
        changed = States(store).retry(name)
        if changed is None:
            raise _unknown(name)
        letters = retry_letters(store, changed) if dead_letters else []
    if as_json:
        print_json({"name": changed.name, "url": changed.url, "state": changed.state, "sent": letters})
    else:
        again = f" Its dead letters are sent again: {len(letters)}." if dead_letters else ""
        print_line(f"{changed.name}: What waits is sent now.{again}")


@report_errors
def remove(name: EndpointName, as_json: AsJson = False) -> None:
    """Remove an endpoint with its secret, what waits for it and its dead letters."""
    _change(name, States.remove, "Removed.", as_json)


@contextmanager
def _opened() -> Iterator[tuple[Settings, Endpoints]]:
    """Open the database and the vault. Raises `CommandFailed` for what the vault can't seal or open."""
    settings = load_settings("keys")
    vault = open_vault(settings)
    try:
        with opened_store(settings) as store:
            yield settings, Endpoints(store, vault)
    except (KeyServiceUnavailable, VaultError) as error:
        raise CommandFailed(f"{str(error)[0].upper()}{str(error)[1:]}. See breezesync doctor.") from None
    finally:
        vault.close()


def _check(url: str, types: tuple[str, ...], allow_private: bool) -> None:
    try:
        check_url(url, allow_private)
    except UrlRefused as refused:
        raise WrongUsage(f"URL: {refused}.") from None
    unknown = find_unknown(types, event_types())
    if unknown or not types:
        raise WrongUsage(
            f"--types: no event is of type {', '.join(unknown) or '(none)'}. The types are {', '.join(event_types())}."
        )


def _read_length(text: str) -> timedelta:
    if text == "0":
        return timedelta()
    try:
        return parse_duration(text)
    except ValueError as error:
        raise WrongUsage(f"--overlap: {error}.") from None


def _find(store: Store, name: str) -> Endpoint:
    with store.reading() as tx:
        found = tx.webhooks.named(name)
    if found is None:
        raise _unknown(name)
    return found


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no endpoint {name}. List them with breezesync webhooks.")


def _change(name: str, act: Callable[[States, str], Endpoint | None], said: str, as_json: bool) -> None:
    with opened_store(load_settings()) as store:
        changed = act(States(store), name)
    if changed is None:
        raise _unknown(name)
    if as_json:
        print_json({"name": changed.name, "url": changed.url, "state": changed.state})
    else:
        print_line(f"{changed.name}: {said}")


def _show_secret(endpoint: Endpoint, secret: Secret, as_json: bool) -> None:
    if as_json:
        print_json(
            {"name": endpoint.name, "url": endpoint.url, "types": endpoint.types, "secret": secret.reveal()}
            | ({} if endpoint.previous_until is None else {"previous_until": endpoint.previous_until})
        )
        return
    print_line(f"{endpoint.name}: {endpoint.url}")
    print_line(f"Its secret, which is shown this once:\n  {secret.reveal()}")
    if endpoint.previous_until is not None:
        print_line(f"The one before signs as well until {endpoint.previous_until:%Y-%m-%d %H:%M} UTC.")
    print_line(f"Try it: breezesync webhooks test {endpoint.name}")


def _describe(endpoint: Endpoint, load: Load) -> dict[str, object]:
    return {
        "name": endpoint.name,
        "url": endpoint.url,
        "types": endpoint.types,
        "state": endpoint.state,
        "allow_private": endpoint.allow_private,
        "created_at": endpoint.created_at,
        "paused_at": endpoint.paused_at,
        "failing_since": endpoint.failing_since,
        "delivered_at": endpoint.delivered_at,
        "error": endpoint.error,
        "waiting": load.waiting,
        "waits_since": load.since,
        "dead_letters": load.dead,
    }
