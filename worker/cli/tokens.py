"""`breezesync connect-token`: connect an account by a personal access token.

The token is read from standard input, because other users of the machine can see a command line.
"""

import re
import sys
from typing import Annotated

import typer

from config.settings import Settings
from config.wiring import open_services
from models.crypto.secrets import Secret
from models.oauth.connection import Connection
from worker.cli.context import load_settings, name_operator, opened_store
from worker.cli.output import AsJson, NotFound, WrongUsage, print_json, print_line, report_errors
from worker.oauth.personal_token import ConnectToken
from worker.processes.parts import build_parts

longest_token = 16_384


@report_errors
def connect_token(
    user: Annotated[str, typer.Argument(help="The application's id of the user.")],
    provider: Annotated[str | None, typer.Option(help="The provider; by default the first one in PROVIDERS.")] = None,
    team: Annotated[
        list[int] | None, typer.Option(help="The id of a team whose data to sync as well; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Connect an account by its personal access token, read from standard input. The token is never refreshed."""
    if not 1 <= len(user) <= 255 or not user.isprintable() or user.isspace():
        raise WrongUsage("USER has to be 1 to 255 visible characters.")
    settings = load_settings("keys")
    name = provider or settings.providers[0].name
    if settings.provider(name) is None:
        known = ", ".join(each.name for each in settings.providers)
        raise NotFound(f"There is no provider {name!r}. PROVIDERS lists {known}.")
    connection = _connect(settings, name, user, read_token("breezesync connect-token USER < FILE"), tuple(team or ()))
    if as_json:
        print_json({"connection_id": connection.id, "account_id": connection.account_id, "user_id": user})
    else:
        about = f"{connection.account_id} {connection.email or ''}".rstrip()
        print_line(f"{connection.id}: account {about} connected; its first sync is enqueued")


def _connect(settings: Settings, provider: str, user: str, token: Secret, team_ids: tuple[int, ...]) -> Connection:
    parts = build_parts(settings, open_services(settings, name_operator()))
    try:
        with opened_store(settings) as store:
            flow = ConnectToken(store, parts.vault, parts.providers, parts.send, parts.services.now)
            return flow(provider, user, token, team_ids)
    finally:
        for each in parts.providers.values():
            each.close()
        parts.vault.close()
        parts.services.close()


def read_token(example: str) -> Secret:
    """Return the token, typed without echo on a terminal or piped in. Raises `WrongUsage`, with the example, if it is
    not a token."""
    text = typer.prompt("Token", hide_input=True) if sys.stdin.isatty() else sys.stdin.read(longest_token + 1)
    token = text.strip()
    if not re.fullmatch(r"[!-~]+", token) or len(token) > longest_token:
        raise WrongUsage(f"Standard input has to be a token and nothing else: {example}")
    return Secret(token)
