"""`breezesync COMMAND`: the command line."""

import sys
from collections.abc import Callable, Mapping, Sequence
from io import TextIOWrapper

import typer

from worker.cli import (
    audit,
    authorizations,
    backup,
    confirm,
    connections,
    dead_letters,
    doctor,
    events,
    explain,
    gateway,
    keys,
    links,
    profile,
    provider,
    setup,
    status,
    tokens,
    webhooks,
)
from worker.cli.command_line import CommandLine, accept_options
from worker.cli.examples import show_examples


def build_app() -> typer.Typer:
    """Build the command line from the commands in `worker/cli`."""
    app = typer.Typer(
        name="breezesync",
        cls=CommandLine,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        epilog=show_examples(""),
    )
    app.callback()(accept_options)
    for name, command in commands.items():
        app.command(name, epilog=show_examples(name))(command)
    for name, (alone, members, text) in groups.items():
        app.add_typer(_group(name, alone, members, text), name=name)
    return app


commands: Mapping[str, Callable[..., None]] = {
    "init": setup.init,
    "migrate": setup.migrate,
    "run": setup.run,
    "doctor": doctor.doctor,
    "connect-link": links.connect_link,
    "connect-token": tokens.connect_token,
    "connections": connections.connections,
    "authorizations": authorizations.authorizations,
    "confirm": confirm.confirm,
    "explain": explain.explain,
    "sync": connections.sync,
    "refresh": connections.refresh,
    "disconnect": connections.disconnect,
    "status": status.status,
    "gateway-key": gateway.gateway_key,
}
groups: Mapping[str, tuple[Callable[..., None] | None, Sequence[Callable[..., None]], str]] = {
    "events": (events.events, (events.replay, events.groups), "Show the stored events, and publish them again."),
    "audit": (audit.audit, (audit.verify,), "Show who did what with whose tokens, and verify it."),
    "dead-letters": (
        dead_letters.dead_letters,
        (dead_letters.retry, dead_letters.drop),
        "Messages, and events of webhooks, that failed for good.",
    ),
    "provider": (None, provider.commands, "Show and control what keeps a provider's tokens back."),
    "profile": (None, (profile.check,), "Check a provider's profile before it is used."),
    "webhooks": (webhooks.webhooks, webhooks.commands, "Send events to endpoints over HTTP."),
    "backup": (None, (backup.check,), "Check what was restored from a backup."),
    "keys": (None, keys.commands, "Show what each encryption key seals, and reseal all."),
}


def _group(
    name: str, alone: Callable[..., None] | None, members: Sequence[Callable[..., None]], text: str
) -> typer.Typer:
    """Return a group of commands; `alone` runs if none of them is named."""
    group = typer.Typer(help=text, epilog=show_examples(name))
    if alone is not None:
        group.callback(invoke_without_command=True, help=text, epilog=show_examples(name))(alone)
    for member in members:
        its_own = member.__name__.replace("_", "-")
        group.command(its_own, epilog=show_examples(f"{name} {its_own}"))(member)
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
