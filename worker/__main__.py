"""`breezesync COMMAND`: the command line."""

import sys
from collections.abc import Callable
from io import TextIOWrapper

import typer

from worker.cli import (
    audit,
    authorizations,
    confirm,
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
from worker.cli.command_line import CommandLine, accept_options


def build_app() -> typer.Typer:
    """Build the command line from the commands in `worker/cli`."""
    app = typer.Typer(
        name="breezesync",
        cls=CommandLine,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(accept_options)
    app.command()(setup.init)
    app.command()(setup.migrate)
    app.command()(setup.run)
    app.command()(doctor.doctor)
    app.command("connect-link")(links.connect_link)
    app.command("connect-token")(tokens.connect_token)
    app.command()(connections.connections)
    app.command()(authorizations.authorizations)
    app.command()(confirm.confirm)
    app.command()(explain.explain)
    app.command()(connections.sync)
    app.command()(connections.refresh)
    app.command()(connections.disconnect)
    app.command()(status.status)
    for name, group in (
        ("events", _group(events.events, events.replay, events.groups)),
        ("audit", _group(audit.audit, audit.verify)),
        ("dead-letters", _group(dead_letters.dead_letters, dead_letters.retry, dead_letters.drop)),
        ("provider", _group(None, *provider.commands, text="Show and control what keeps a provider's tokens back.")),
        ("keys", _group(None, *keys.commands, text="Show what each encryption key seals, and reseal all.")),
    ):
        app.add_typer(group, name=name)
    return app


def _group(alone: Callable[..., None] | None, *commands: Callable[..., None], text: str | None = None) -> typer.Typer:
    """Return a group of commands; `alone` runs if none of them is named."""
    group = typer.Typer(help=text)
    if alone is not None:
        group.callback(invoke_without_command=True)(alone)
    for command in commands:
        group.command()(command)
    return group


def main() -> None:
    """Run one command and exit with 0 (done), 1 (failed), 2 (wrong usage), 3 (not found) or 130 (interrupted).

    Characters that standard output cannot encode are printed escaped.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    build_app()(prog_name="breezesync")


if __name__ == "__main__":
    main()
