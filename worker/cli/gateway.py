"""`breezesync gateway-key`: make a key of the gateway."""

import re
from typing import Annotated

import typer

from config.wiring import open_clock
from models.audit.entry import Action, Entry
from models.gateway.keys import (
    GatewayKey,
    digest_of,
    make_secret,
    name_pattern,
    parse_methods,
    parse_providers,
    safe_methods,
)
from worker.cli.context import load_settings, opened_store
from worker.cli.output import AsJson, NotFound, WrongUsage, print_json, print_line, report_errors


@report_errors
def gateway_key(
    name: Annotated[str, typer.Argument(help="Who calls with it; the audit says so.")],
    provider: Annotated[
        list[str] | None, typer.Option(help="It sees only the connections of this provider; repeatable.")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="It may call with this HTTP method; repeatable. By default GET and HEAD; none for none."),
    ] = None,
    token: Annotated[bool, typer.Option("--token", help="It may have access tokens.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a key of the gateway, and print it once with its entry in GATEWAY_KEYS. Only the audit notes it."""
    settings = load_settings()
    secret = make_secret()
    key = _read_key(name, provider, method, token, digest_of(secret.reveal()))
    for wanted in sorted(key.providers or ()):
        if settings.provider(wanted) is None:
            known = ", ".join(each.name for each in settings.providers)
            raise NotFound(f"There is no provider {wanted!r}. PROVIDERS lists {known}.")
    with opened_store(settings) as store:
        now = open_clock(store, lambda measured: None)
        scope = key.line().partition(";")[2]
        detail = {"key": key.name, "scope": scope, "digest": key.digest.hex()[:12]}
        with store.writing() as tx:
            tx.audit.add(Entry(action=Action.gateway_key_made, detail=detail), now())
    if as_json:
        print_json({"name": name, "key": secret.reveal(), "entry": key.line()})
        return
    print_line(f"The key, which is shown this once:\n  {secret.reveal()}")
    print_line(f"Its entry in GATEWAY_KEYS, which opens nothing (put it in quotes in a shell):\n  {key.line()}")
    print_line("Add it with a comma to what is there, and restart the gateway. A name may have two keys for a while.")


def _read_key(
    name: str, providers: list[str] | None, methods: list[str] | None, token: bool, digest: bytes
) -> GatewayKey:
    """Return the key as it is typed. Raises `WrongUsage`."""
    if not re.fullmatch(name_pattern, name):
        raise WrongUsage("NAME has to be 1 to 64 letters, digits, dots, '-' and '_'.")
    try:
        return GatewayKey(
            name=name,
            digest=digest,
            providers=parse_providers(providers) if providers else None,
            methods=parse_methods(methods) if methods else safe_methods,
            token=token,
        )
    except ValueError as error:
        raise WrongUsage(f"{str(error)[0].upper()}{str(error)[1:]}.") from None
