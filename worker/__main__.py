"""`breezesync COMMAND`: the command line."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from io import TextIOWrapper

import typer

from worker.cli.command_line import CommandLine, accept_options
from worker.cli.examples import show_examples

commands: Mapping[str, str] = {
    "init": "setup.init",
    "migrate": "setup.migrate",
    "run": "setup.run",
    "doctor": "doctor.doctor",
    "connect-link": "links.connect_link",
    "connect-token": "tokens.connect_token",
    "connections": "connections.connections",
    "authorizations": "authorizations.authorizations",
    "confirm": "confirm.confirm",
    "explain": "explain.explain",
    "sync": "connections.sync",
    "refresh": "connections.refresh",
    "disconnect": "connections.disconnect",
    "status": "status.status",
    "gateway-key": "gateway.gateway_key",
}
"""Where each command is in `worker/cli`: only what a line asks for is imported."""
groups: Mapping[str, tuple[str | None, Sequence[str], str]] = {
    "events": ("events.events", ("events.replay", "events.groups"), "Show the stored events, and publish them again."),
    "audit": ("audit.audit", ("audit.verify",), "Show who did what with whose tokens, and verify it."),
    "dead-letters": (
        "dead_letters.dead_letters",
        ("dead_letters.retry", "dead_letters.drop"),
        "Messages, and events of webhooks, that failed for good.",
    ),
    "provider": (
        None,
        (
            "provider.status",
            "provider.hold",
            "provider.release",
            "provider.accept",
            "provider.pause",
            "provider.resume",
        ),
        "Show and control what keeps a provider's tokens back.",
    ),
    "profile": (None, ("profile.check",), "Check a provider's profile before it is used."),
    "webhooks": (
        "webhooks.webhooks",
        (
            "webhooks.add",
            "webhooks.test",
            "webhooks.rotate",
            "webhooks.remove",
            "webhooks.pause",
            "webhooks.resume",
            "webhooks.retry",
        ),
        "Send events to endpoints over HTTP.",
    ),
    "backup": (None, ("backup.check",), "Check what was restored from a backup."),
    "keys": (
        None,
        ("keys.status", "keys.new", "keys.rotate", "keys.sealing_key"),
        "Show what each encryption key seals, and reseal all.",
    ),
}


def choose(arguments: Sequence[str]) -> Collection[str]:
    """Return the commands and groups that a line may need: the one that it names, none for the version, or all."""
    names = {*commands, *groups}
    first = arguments[0] if arguments else ""
    return set() if first == "--version" else names & {first} or names


def build_app(names: Collection[str] = frozenset({*commands, *groups})) -> typer.Typer:
    """Build the command line from these commands and groups."""
    app = typer.Typer(
        name="breezesync",
        cls=CommandLine,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        epilog=show_examples(""),
    )
    app.callback()(accept_options)
    for name, place in commands.items():
        if name in names:
            app.command(name, epilog=show_examples(name))(_find(place))
    for name, group in groups.items():
        if name in names:
            app.add_typer(_group(name, *group), name=name)
    return app


def _group(name: str, alone: str | None, members: Sequence[str], text: str) -> typer.Typer:
    """Return a group of commands; `alone` runs if none of them is named."""
    group = typer.Typer(help=text, epilog=show_examples(name))
    if alone is not None:
        group.callback(invoke_without_command=True, help=text, epilog=show_examples(name))(_find(alone))
    for member in map(_find, members):
        its_own = member.__name__.replace("_", "-")
        group.command(its_own, epilog=show_examples(f"{name} {its_own}"))(member)
    return group


def _find(place: str) -> Callable[..., None]:
    module, name = place.split(".")
    found: Callable[..., None] = getattr(import_module(f"worker.cli.{module}"), name)
    return found


def main() -> None:
    """Run one command and exit with 0 (done), 1 (failed), 2 (wrong usage), 3 (not found) or 130 (interrupted).

    Characters that standard output cannot encode are printed escaped.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    build_app(choose(sys.argv[1:]))(prog_name="breezesync")


if __name__ == "__main__":
    main()
