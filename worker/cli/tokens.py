"""Personal access tokens: taken from standard input, never from the command line, where others could read them."""

import re
import sys
from typing import Annotated

import typer

from config.settings import Settings
from config.wiring import build_broker, now, open_redis
from models.crypto.secrets import Secret
from models.crypto.vault import Vault
from models.oauth.connection import Connection
from models.queue import MessageQueue
from worker.cli.context import opened_store, settings_for
from worker.cli.output import AsJson, NotThere, WrongUsage, plainly, say, say_json
from worker.oauth.personal_token import ConnectToken
from worker.provider.client import ProviderClient
from worker.provider.rate_limit import Budgets

longest_token = 16_384


@plainly
def connect_token(
    user: Annotated[str, typer.Argument(help="The application's id of the user.")],
    provider: Annotated[str | None, typer.Option(help="The provider; by default the first in PROVIDERS.")] = None,
    team: Annotated[list[int] | None, typer.Option(help="A team to read as well; may be given repeatedly.")] = None,
    as_json: AsJson = False,
) -> None:
    """Connect an account by its personal access token, read from standard input: it is read, and never refreshed."""
    if not 1 <= len(user) <= 255 or not user.isprintable() or user.isspace():
        raise WrongUsage("USER has to be 1 to 255 visible characters.")
    settings = settings_for("keys")
    name = provider or settings.providers[0].name
    if settings.provider(name) is None:
        known = ", ".join(each.name for each in settings.providers)
        raise NotThere(f"There is no provider {name!r} here; PROVIDERS names {known}.")
    connection = _connect(settings, name, user, _read_token(), tuple(team or ()))
    if as_json:
        say_json({"connection_id": connection.id, "account_id": connection.account_id, "user_id": user})
    else:
        about = f"{connection.account_id} {connection.email or ''}".rstrip()
        say(f"{connection.id}: account {about} connected, its first reading is on its way")


def _connect(settings: Settings, provider: str, user: str, token: Secret, team_ids: tuple[int, ...]) -> Connection:
    client, broker = open_redis(settings.redis_url), build_broker(settings)
    providers = {
        each.name: ProviderClient(each, now, Budgets(client), proxies=settings.proxies) for each in settings.providers
    }
    try:
        with opened_store(settings) as store:
            send = MessageQueue(broker, client).send
            flow = ConnectToken(store, Vault(settings.encryption_keys), providers, send, now)
            return flow(provider, user, token, team_ids)
    finally:
        for each in providers.values():
            each.close()
        broker.client.close()
        client.close()


def _read_token() -> Secret:
    """The token, typed unseen on a terminal or piped in. Raises `WrongUsage` where it can be none."""
    text = typer.prompt("Token", hide_input=True) if sys.stdin.isatty() else sys.stdin.read(longest_token + 1)
    token = text.strip()
    if not re.fullmatch(r"[!-~]+", token) or len(token) > longest_token:
        raise WrongUsage("Standard input has to hold a token, and nothing else: breezesync connect-token USER < file")
    return Secret(token)
