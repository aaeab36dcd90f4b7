"""`breezesync connect-link`: sign a link that lets a user connect an account."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated
from uuid import uuid4

import typer

from config.settings import Settings
from config.wiring import now
from models.oauth.connect_link import ConnectLink, LinkRefused, longest_life, read_link, sign_link
from worker.cli.context import load_settings
from worker.cli.output import AsJson, CommandFailed, NotFound, WrongUsage, print_json, print_line, report_errors

longest_seconds = int(longest_life.total_seconds())


@report_errors
def connect_link(
    user: Annotated[str, typer.Argument(metavar="USER", help="The application's id of the user.")],
    provider: Annotated[str | None, typer.Option(help="The provider; by default the first one in PROVIDERS.")] = None,
    return_to: Annotated[
        str | None, typer.Option(help="The URL the browser returns to; its origin has to be in RETURN_ORIGINS.")
    ] = None,
    ttl: Annotated[
        int, typer.Option(min=1, max=longest_seconds, help="For how many seconds the link is valid.")
    ] = longest_seconds,
    connection: Annotated[str | None, typer.Option(help="The id of a connection to authorize again.")] = None,
    name: Annotated[str | None, typer.Option(help="The person's name, which our page shows instead of USER.")] = None,
    team: Annotated[
        list[int] | None, typer.Option(help="The id of a team whose data to sync as well; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print a signed link that lets one user connect an account, once."""
    settings = load_settings("clients", "links")
    life = timedelta(seconds=ttl)
    wanted = LinkOptions(provider, return_to, life, connection, tuple(team or ()), name)
    url = make_link(settings, user, wanted)
    if as_json:
        print_json({"url": url, "user_id": user, "expires_in": ttl})
    else:
        print_line(url)


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """What a link says beside its user; without a provider it is for the first one."""

    provider: str | None = None
    return_to: str | None = None
    life: timedelta = longest_life
    connection_id: str | None = None
    team_ids: tuple[int, ...] = ()
    person: str | None = None


def make_link(settings: Settings, user: str, wanted: LinkOptions | None = None) -> str:
    """Return the link's URL, beside the client's redirect URI: on its origin, and behind the same path prefix.

    Raises `CommandFailed` if the web process would refuse the link.
    """
    wanted = wanted or LinkOptions()
    name = wanted.provider or settings.providers[0].name
    client = settings.client_for(name)
    if settings.provider(name) is None or client is None:
        known = ", ".join(each.name for each in settings.providers)
        raise NotFound(f"There is no provider {name!r}. PROVIDERS lists {known}.")
    moment = now().replace(microsecond=0)
    link = ConnectLink(
        user_id=user,
        issued_at=moment,
        expires_at=moment + wanted.life,
        jti=uuid4().hex,
        return_to=wanted.return_to,
        team_ids=wanted.team_ids,
        connection_id=wanted.connection_id,
        provider=name,
        name=wanted.person,
    )
    token = sign_link(link, settings.connect_secrets[0])
    try:
        read_link(token, settings.connect_secrets, moment, settings.return_origins, name)
    except LinkRefused as refused:
        # What RETURN_ORIGINS does not list may be right on the command line and missing in the settings.
        failure = CommandFailed if refused.reason == "bad_return_to" else WrongUsage
        raise failure(_explain(refused, wanted.return_to, settings)) from None
    return f"{client.redirect_uri.removesuffix('/callback')}?token={token}"


def _explain(refused: LinkRefused, return_to: str | None, settings: Settings) -> str:
    match refused.reason:
        case "bad_return_to":
            allowed = ", ".join(sorted(settings.return_origins)) or "nothing"
            return f"--return-to {return_to} is not allowed. RETURN_ORIGINS lists {allowed}."
        case "bad_name":
            return "--name has to be 1 to 255 visible characters."
        case "bad_user":
            return "USER has to be 1 to 255 visible characters."
        case "bad_team_ids":
            return "--team has to be a number above 0, given at most 100 times."
        case "bad_connection_id":
            return "--connection has to be a connection's id."
        case _:
            return str(refused)
