"""`breezesync COMMAND`: the command line."""

import sys
from io import TextIOWrapper

import typer

from worker.cli import (
    authorizations,
    connections,
    dead_letters,
    doctor,
    events,
    explain,
    keys,
    links,
    provider,
    setup,
    status,
    tokens,
)


def build_app() -> typer.Typer:
    """Build the command line from the commands in `worker/cli`."""
    app = typer.Typer(
        name="breezesync",
        help="Manage your users' OAuth connections: fresh tokens, data in your database, changes on a Redis stream.",
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
    app.command()(authorizations.authorizations)
    app.command()(explain.explain)
    app.command()(connections.sync)
    app.command()(connections.refresh)
    app.command()(connections.disconnect)
    app.command()(status.status)
    streams = typer.Typer()
    streams.callback(invoke_without_command=True)(events.events)
    streams.command()(events.replay)
    streams.command()(events.groups)
    app.add_typer(streams, name="events")
    letters = typer.Typer()
    letters.callback(invoke_without_command=True)(dead_letters.dead_letters)
    letters.command()(dead_letters.retry)
    letters.command()(dead_letters.drop)
    app.add_typer(letters, name="dead-letters")
    breakers = typer.Typer(help="Show and control what keeps a provider's tokens back.")
    breakers.command()(provider.status)
    breakers.command()(provider.hold)
    breakers.command()(provider.release)
    breakers.command()(provider.accept)
    breakers.command()(provider.pause)
    breakers.command()(provider.resume)
    app.add_typer(breakers, name="provider")
    key_ring = typer.Typer(help="Show which encryption key seals what, and reseal everything with the first key.")
    key_ring.command()(keys.status)
    key_ring.command()(keys.rotate)
    app.add_typer(key_ring, name="keys")
    return app


def main() -> None:
    """Run one command and exit with 0 (done), 1 (failed), 2 (wrong usage), 3 (not found) or 130 (interrupted).

    Characters that standard output cannot encode are printed escaped.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    build_app()(prog_name="breezesync")


if __name__ == "__main__":
    main()
