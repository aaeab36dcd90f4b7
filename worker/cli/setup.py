"""Commands that set breezesync up: write `.env`, migrate the database, run all processes on one machine."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from sqlalchemy.exc import SQLAlchemyError

from config.env_file import read_env_file
from config.env_template import write_env
from config.redis_url import show_redis_url
from config.settings import Settings
from config.wiring import open_store
from models.errors import SyncError
from models.migrations import known_revisions
from models.migrations import migrate as migrate_database
from models.store.fitness import find_misfit
from models.store.grants import Role, parse_roles
from worker.cli.context import describe, describe_trouble, load_settings, name_operator, show_url
from worker.cli.links import make_link
from worker.cli.output import AsJson, CommandFailed, print_json, print_line, print_log, print_rich, report_errors
from worker.local.commands import rooms
from worker.local.processes import ChildDied
from worker.local.run import Options, RunFailed, Running
from worker.local.run import run as run_all


@report_errors
def init(as_json: AsJson = False) -> None:
    """Write a .env with new keys; an existing one is never overwritten."""
    path = Path(".env")
    try:
        write_env(path)
    except FileExistsError:
        raise CommandFailed(
            f"{path} already exists and was not changed. Keep it: its ENCRYPTION_KEYS open the database."
        ) from None
    except OSError as error:
        raise CommandFailed(f"Cannot write {path}: {error.strerror}.") from None
    if as_json:
        print_json({"path": str(path.resolve()), "variables": sorted(read_env_file(path))})
    else:
        print_line(
            f"Wrote {path} with new keys; only you can read it. "
            "Keep a copy: without ENCRYPTION_KEYS every connection is lost."
        )


@report_errors
def migrate(
    grant_roles: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also give the role of each process what it uses; lines of PROCESS=ROLE:PASSWORD."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring the database to the newest schema."""
    settings = load_settings()
    url = show_url(settings.database_url)
    roles = () if grant_roles is None else _read_roles(grant_roles, settings)
    store = open_store(settings, name_operator())
    try:
        with store.reading() as tx:
            misfit = find_misfit(tx.sql, tx.overview.revision(), known_revisions())
        if misfit is not None:
            raise CommandFailed(describe(settings, misfit))
        revision = migrate_database(store.engine, settings.providers, roles)
    except (SyncError, SQLAlchemyError) as error:
        raise CommandFailed(describe_trouble(settings, error)) from error
    finally:
        store.close()
    if as_json:
        print_json({"database": url, "revision": revision} | ({"roles": [r.name for r in roles]} if roles else {}))
    else:
        print_line(f"{url} is at schema {revision}.")
        for role in roles:
            print_line(f"Role {role.name} may do what {role.process} needs.")


def _read_roles(path: Path, settings: Settings) -> tuple[Role, ...]:
    """Read the roles to grant. Raises `CommandFailed`."""
    if not settings.database_url.reveal().startswith("postgresql"):
        raise CommandFailed("Only PostgreSQL has roles. Leave out --grant-roles, or set DATABASE_URL.")
    try:
        return parse_roles(path.read_text())
    except OSError as error:
        raise CommandFailed(f"Cannot read {path}: {error.strerror}.") from None
    except ValueError as error:
        raise CommandFailed(f"{path}: {error}.") from None


@report_errors
def run(
    port: Annotated[int, typer.Option(min=1, max=65535, help="The web process's port.")] = 8700,
    sandbox_port: Annotated[int | None, typer.Option(min=1, max=65535, help="The sandbox's port.")] = None,
    operator_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The port of health checks and metrics.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="The number of worker processes.")] = 1,
    without_key: Annotated[
        list[str] | None, typer.Option(help="Start though this key is missing; can be repeated.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the processes' logs.")] = False,
    state: Annotated[
        Path | None, typer.Option(help="Write URLs and settings to this file once everything runs.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run all processes on this machine until Ctrl-C, with a built-in Redis and provider if none is configured."""
    options = Options(port, sandbox_port, operator_port, workers, state, tuple(without_key or ()))
    if sys.stdout.isatty() and not as_json:
        print_line("Starting; this takes a few seconds.")
    try:
        run_all(options, _print_as_json if as_json else _print_started, _show if verbose else None)
    except RunFailed as error:
        raise CommandFailed(str(error)) from None
    except ChildDied as death:
        print_log(death.tail)
        raise CommandFailed(
            f"The process {death}. Everything was stopped. The last lines of its log are above."
        ) from None
    except OSError as error:
        raise CommandFailed(f"{error.filename or 'a file'}: {error.strerror}.") from None
    if not as_json:
        print_line("Stopped.")


def _print_started(running: Running) -> None:
    settings = running.settings
    print_rich("[bold green]breezesync is running.[/] Ctrl-C stops it.\n")
    print_rich("Open this in a browser to connect an account, once and within 15 minutes:")
    print_line(make_link(settings, "demo"))
    commands = suggest_commands(own_name(), Path.cwd())
    places = [
        ("Web", running.web_url),
        (
            "Health",
            f"{running.operator_url}/readyz, and /metrics" if running.operator_url else "OPERATOR_ADDRESS is empty",
        ),
        ("Gateway", running.gateway_url or "set GATEWAY_KEYS to have one; breezesync gateway-key NAME makes a key"),
        ("Uses", f"{show_url(settings.database_url)}, {show_redis_url(settings.redis_url)}"),
        ("Logs", "var/log"),
    ]
    if running.sandbox_url is not None:
        url = f"{running.sandbox_url}/_sandbox"
        places.insert(
            0, ("Provider", f"the sandbox, because no OAuth client is configured. Edit, sign and revoke at {url}")
        )
    if running.wrote_env:
        places.append(("Wrote", ".env with new keys. Keep a copy: without it every connection is lost"))
    print_rich("\nIn another terminal:")
    _print_columns(commands)
    print_rich("")
    _print_columns(places)
    print_rich("")


def suggest_commands(name: str, directory: Path) -> Sequence[tuple[str, str]]:
    """Return what to type next in that directory, each with what it does; `name` starts this program.

    Only a checkout has the example, and its Makefile is found from there only.
    """
    has_example = directory == Path(rooms) and (directory / "docs" / "examples" / "start.py").is_file()
    return [
        (f"{name} events --follow", "show events as they happen"),
        (f"{name} connections", "list connections; explain CONNECTION says what was decided about one"),
        (f"{name} status", "count connections, due work and messages"),
        (f"{name} doctor", "check every part"),
        (f"{name} connect-link USER", "make a link for another user"),
        *([("make example", "start an application that shows all of this")] if has_example else []),
    ]


def own_name() -> str:
    """Return the command that starts this program from the working directory."""
    beside = Path(sys.executable).with_name("breezesync")
    if shutil.which("breezesync") is not None:
        return "breezesync"
    if not beside.exists():
        return "python -m worker"
    return str(beside.relative_to(Path.cwd())) if beside.is_relative_to(Path.cwd()) else str(beside)


def _print_columns(rows: Sequence[tuple[str, str]]) -> None:
    width = max(len(first) for first, _ in rows)
    for first, second in rows:
        print_rich(f"  [bold]{escape(first):<{width}}[/]  {escape(second)}")


def _print_as_json(running: Running) -> None:
    places = {
        "web_url": running.web_url,
        "operator_url": running.operator_url,
        "gateway_url": running.gateway_url,
        "sandbox_url": running.sandbox_url,
        "database": show_url(running.settings.database_url),
        "redis": show_redis_url(running.settings.redis_url),
        "connect_link": make_link(running.settings, "demo"),
        "wrote_env": running.wrote_env,
    }
    print_json(places, indent=None)


def _show(name: str, line: str) -> None:
    print_log(f"{name:>9} | {line}")
