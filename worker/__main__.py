"""`breezesync COMMAND`: the command line, every command under its name."""

import sys
from io import TextIOWrapper

import typer

from worker.cli import connections, dead_letters, doctor, events, keys, links, setup, status, tokens


def build_app() -> typer.Typer:
    """The commands; each comes from the room that knows what it is about."""
    app = typer.Typer(
        name="breezesync",
        help="Owns your users' OAuth connections: tokens fresh, data in your database, changes on a Redis stream.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.command()(setup.init)
    app.command()(setup.migrate)
    app.command()(setup.run)
    app.command()(doctor.doctor)
    app.command("connect-link")(links.connect_link)
    app.command("connect-token")(tokens.connect_token)
    app.command()(connections.connections)
    app.command()(connections.explain)
    app.command()(connections.sync)
    app.command()(connections.refresh)
    app.command()(connections.disconnect)
    app.command()(status.status)
    heard = typer.Typer()
    heard.callback(invoke_without_command=True)(events.events)
    heard.command()(events.replay)
    heard.command()(events.groups)
    app.add_typer(heard, name="events")
    dead = typer.Typer()
    dead.callback(invoke_without_command=True)(dead_letters.dead_letters)
    dead.command()(dead_letters.retry)
    dead.command()(dead_letters.drop)
    app.add_typer(dead, name="dead-letters")
    ring = typer.Typer(help="The encryption keys: which one seals what, and sealing everything anew.")
    ring.command()(keys.status)
    ring.command()(keys.rotate)
    app.add_typer(ring, name="keys")
    return app


def main() -> None:
    """Runs one command and exits: 0 done, 1 failed, 2 wrong usage, 3 not found, 130 interrupted.

    What standard output has no letters for, as half a character in somebody's message, is shown escaped.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    build_app()(prog_name="breezesync")


if __name__ == "__main__":
    main()
