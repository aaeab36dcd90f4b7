"""An example of each command, as its `--help` shows it."""

from typing import Final

EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "": ("breezesync doctor", "breezesync explain 3f9a --json"),
    "init": ("breezesync init",),
    "migrate": ("breezesync migrate", "breezesync migrate --grant-roles roles.txt"),
    "run": ("breezesync run", "breezesync run --port 8800 --workers 2 --verbose"),
    "doctor": ("breezesync doctor", "breezesync doctor --json"),
    "connect-link": (
        "breezesync connect-link ada",
        "breezesync connect-link ada --return-to https://app.example.com/settings --ttl 300",
    ),
    "connect-token": ("breezesync connect-token ada < token.txt",),
    "connections": ("breezesync connections --user ada", "breezesync connections --problem plan_required --json"),
    "authorizations": ("breezesync authorizations --status failed", "breezesync authorizations --user ada"),
    "confirm": ("breezesync confirm 5d41402abc4b --user ada --confirmation VALUE",),
    "explain": ("breezesync explain 3f9a", "breezesync explain --user ada"),
    "sync": ("breezesync sync 3f9a0c1de2b44f5a8b6c7d8e9f001122 --follow", "breezesync sync --user ada"),
    "refresh": ("breezesync refresh --user ada",),
    "disconnect": ("breezesync disconnect --user ada", "breezesync disconnect --user ada --erase --yes"),
    "gateway-key": (
        "breezesync gateway-key reports",
        "breezesync gateway-key billing --provider breezedoc --method GET --method POST --token",
    ),
    "status": ("breezesync status", "breezesync status --json"),
    "events": (
        "breezesync events --follow",
        "breezesync events --type connection.reauthorization_required --limit 50",
    ),
    "events replay": ("breezesync events replay --since 2h", "breezesync events replay --since 2026-05-01T12:00:00Z"),
    "events groups": ("breezesync events groups",),
    "audit": ("breezesync audit --since 1d --json",),
    "audit verify": ("breezesync audit verify",),
    "dead-letters": ("breezesync dead-letters",),
    "dead-letters retry": ("breezesync dead-letters retry --all",),
    "dead-letters drop": ("breezesync dead-letters drop 7b8c9d0e",),
    "webhooks": ("breezesync webhooks", "breezesync webhooks --json"),
    "webhooks add": (
        "breezesync webhooks add https://app.example.com/webhooks --types 'connection.*,sync.failed'",
        "breezesync webhooks add http://app:8000/webhooks --name app --allow-private",
    ),
    "webhooks test": ("breezesync webhooks test app.example.com",),
    "webhooks rotate": ("breezesync webhooks rotate app.example.com --overlap 2h",),
    "webhooks remove": ("breezesync webhooks remove app.example.com",),
    "webhooks pause": ("breezesync webhooks pause app.example.com",),
    "webhooks resume": ("breezesync webhooks resume app.example.com",),
    "webhooks retry": (
        "breezesync webhooks retry app.example.com",
        "breezesync webhooks retry app.example.com --dead-letters",
    ),
    "provider": ("breezesync provider status",),
    "provider status": ("breezesync provider status --json",),
    "provider hold": ("breezesync provider hold breezedoc",),
    "provider release": ("breezesync provider release breezedoc",),
    "provider accept": ("breezesync provider accept breezedoc",),
    "provider pause": ("breezesync provider pause breezedoc",),
    "provider resume": ("breezesync provider resume breezedoc",),
    "profile": ("breezesync profile check acme.toml",),
    "profile check": (
        "breezesync profile check acme.toml",
        "breezesync profile check acme.toml --connection 3f9a0c1d --json",
        "breezesync profile check acme.toml --token-stdin < token.txt",
    ),
    "backup": ("breezesync backup check",),
    "backup check": ("breezesync backup check", "breezesync backup check --json"),
    "keys": ("breezesync keys status",),
    "keys status": ("breezesync keys status",),
    "keys new": ("breezesync keys new", "breezesync keys new --id k2026"),
    "keys rotate": ("breezesync keys rotate",),
    "keys sealing-key": ("breezesync keys sealing-key",),
}


def show_examples(command: str) -> str:
    """Return what follows a command's help: its examples, a line each. Raises `KeyError` if there is none."""
    return "\n\n".join(["Examples:" if len(EXAMPLES[command]) > 1 else "Example:", *EXAMPLES[command]])
