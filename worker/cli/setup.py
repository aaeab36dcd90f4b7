"""Getting breezesync to run: its `.env`, its schema, all of its processes on one machine."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from config.env_file import read_env_file
from config.env_template import write_env
from config.redis_url import show_redis_url
from config.wiring import open_store
from models.errors import StoreUnavailable
from models.migrations import migrate as migrate_database
from worker.cli.context import settings_for, show_url
from worker.cli.links import make_link
from worker.cli.output import AsJson, CommandFailed, complain, plainly, say, say_json, say_rich
from worker.local.processes import ChildDied
from worker.local.run import Options, RunFailed, Running
from worker.local.run import run as run_all


@plainly
def init(as_json: AsJson = False) -> None:
    """Write a .env with fresh keys, never over an existing one."""
    path = Path(".env")
    try:
        write_env(path)
    except FileExistsError:
        raise CommandFailed(f"{path} is there already and stays as it is: move it away first.") from None
    except OSError as trouble:
        raise CommandFailed(f"{path} can't be written: {trouble.strerror}.") from None
    if as_json:
        say_json({"path": str(path.resolve()), "variables": sorted(read_env_file(path))})
    else:
        say(
            f"Wrote {path} with fresh keys, for you alone to read. "
            "Keep a copy: without ENCRYPTION_KEYS every connection is lost."
        )


@plainly
def migrate(as_json: AsJson = False) -> None:
    """Bring the database to the newest schema."""
    settings = settings_for()
    where = show_url(settings.database_url)
    store = open_store(settings)
    try:
        with store.reading() as tx:
            tx.overview.revision()
        revision = migrate_database(store.engine, settings.providers)
    except StoreUnavailable as away:
        raise CommandFailed(f"The database {where} does not answer: start it, or set DATABASE_URL.") from away
    finally:
        store.close()
    if as_json:
        say_json({"database": where, "revision": revision})
    else:
        say(f"{where} is at schema {revision}.")


@plainly
def run(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where the web process listens.")] = 8700,
    sandbox_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Where the sandbox listens.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many worker processes.")] = 1,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what the processes log.")] = False,
    state: Annotated[Path | None, typer.Option(help="A file to write where everything is, once ready.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run all processes on this machine until Ctrl-C, with a built-in Redis and provider where none is set."""
    options = Options(port, sandbox_port, workers, state)
    if sys.stdout.isatty() and not as_json:
        say("Starting; this takes a few seconds.")
    try:
        run_all(options, _tell_json if as_json else _tell, _show if verbose else None)
    except RunFailed as trouble:
        raise CommandFailed(str(trouble)) from None
    except ChildDied as death:
        complain(death.tail)
        raise CommandFailed(f"The process {death}: everything is stopped. Its last lines are above.") from None
    except OSError as trouble:
        raise CommandFailed(f"{trouble.filename or 'a file'}: {trouble.strerror}.") from None
    if not as_json:
        say("Stopped.")


def _tell(running: Running) -> None:
    settings, name = running.settings, own_name()
    say_rich("[bold green]breezesync is running.[/] Ctrl-C stops it.\n")
    say_rich("Open this in a browser to connect an account, once and within 15 minutes:")
    say(make_link(settings, "demo"))
    commands = [
        (f"{name} events --follow", "hear what happens"),
        (f"{name} connections", "what is connected; explain CONNECTION tells the story of one"),
        (f"{name} status", "how the whole of it stands"),
        (f"{name} doctor", "whether everything is as it should be"),
        (f"{name} connect-link USER", "a link for another user"),
        ("make example", "an application that hears and shows it all"),
    ]
    places = [
        ("Web", f"{running.web_url}; it is up while /readyz says so"),
        ("Works with", f"{show_url(settings.database_url)}, {show_redis_url(settings.redis_url)}"),
        ("Logs", "var/log"),
    ]
    if running.sandbox_url is not None:
        where = f"{running.sandbox_url}/_sandbox plays it, for want of an OAuth client: edit, sign, revoke there"
        places.insert(0, ("Provider", where))
    if running.wrote_env:
        places.append(("Written", ".env with fresh keys: keep a copy, without it every connection is lost"))
    say_rich("\nIn another terminal:")
    _list(commands)
    say_rich("")
    _list(places)
    say_rich("")


def own_name() -> str:
    """How a person calls this program from the working directory."""
    beside = Path(sys.executable).with_name("breezesync")
    if shutil.which("breezesync") is not None:
        return "breezesync"
    if not beside.exists():
        return "python -m worker"
    return str(beside.relative_to(Path.cwd())) if beside.is_relative_to(Path.cwd()) else str(beside)


def _list(rows: Sequence[tuple[str, str]]) -> None:
    width = max(len(first) for first, _ in rows)
    for first, second in rows:
        say_rich(f"  [bold]{escape(first):<{width}}[/]  {escape(second)}")


def _tell_json(running: Running) -> None:
    said = {
        "web_url": running.web_url,
        "sandbox_url": running.sandbox_url,
        "database": show_url(running.settings.database_url),
        "redis": show_redis_url(running.settings.redis_url),
        "connect_link": make_link(running.settings, "demo"),
        "wrote_env": running.wrote_env,
    }
    say_json(said, indent=None)


def _show(name: str, line: str) -> None:
    print(f"{name:>9} | {line}", file=sys.stderr, flush=True)  # noqa: T201 - asked for with --verbose
