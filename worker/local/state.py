"""What one machine has not set, what replaces it, and the file in which a running one records its choices."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.settings import Settings
from models.oauth.client import callback_path
from models.private_files import make_directory

state_path = Path("var/run.json")
sandbox_client_id = "sandbox-client"
sandbox_client_secret = "sandbox-secret"  # noqa: S105 - the sandbox prints it on its own page
example_origins = "http://127.0.0.1:8710,http://localhost:8710"
"""Where the example application listens, beside the sandbox."""


class AlreadyRunning(Exception):
    """Another `breezesync run` is running in this directory."""


@dataclass(frozen=True, slots=True)
class Lack:
    """What is not set: keys (and no `.env` to put them into), a Redis, a database, an OAuth client, origins,
    the operator's listener, a name."""

    keys: bool
    redis: bool
    database: bool
    client: bool
    origins: bool
    operator_address: bool
    app_name: bool


def find_lack(environ: Mapping[str, str], written: Mapping[str, str], settings: Settings, has_file: bool) -> Lack:
    """What is missing in the environment and in what `.env` says; a variable counts as set by its `_FILE` too."""
    given = {name.removesuffix("_FILE") for source in (environ, written) for name in source if source[name].strip()}
    return Lack(
        keys=not has_file and not {"ENCRYPTION_KEYS", "CONNECT_SECRET"} <= given,
        redis="REDIS_URL" not in given,
        database="DATABASE_URL" not in given,
        client=not settings.clients,
        origins="RETURN_ORIGINS" not in given,
        operator_address=settings.operator_address is not None and "OPERATOR_ADDRESS" not in given,
        app_name="APP_NAME" not in given,
    )


def point_at_sandbox(lack: Lack, provider: str, sandbox_url: str, web_url: str) -> dict[str, str]:
    """The variables that make the sandbox this provider, and let its users return to the example application."""
    values = {
        "AUTHORIZE_URL": f"{sandbox_url}/oauth/authorize",
        "TOKEN_URL": f"{sandbox_url}/oauth/token",
        "API_URL": f"{sandbox_url}/api",
        "CLIENT_ID": sandbox_client_id,
        "CLIENT_SECRET": sandbox_client_secret,
        "REDIRECT_URI": callback_url(provider, web_url),
    }
    origins = {"RETURN_ORIGINS": example_origins} if lack.origins else {}
    app_name = {"APP_NAME": "Papertrail"} if lack.app_name else {}
    return {f"{provider.upper()}_{name}": value for name, value in values.items()} | origins | app_name


def callback_url(provider: str, web_url: str) -> str:
    return f"{web_url}{callback_path(provider)}"


@contextmanager
def claim_directory(path: Path = state_path) -> Iterator[int]:
    """The open state file, locked for as long as the block runs and gone when it ends. Raises `AlreadyRunning`."""
    make_directory(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning from None
        os.ftruncate(descriptor, 0)
        try:
            yield descriptor
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def write_state(descriptor: int, state: Mapping[str, Any]) -> None:
    """Replace what the file holds with the state."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(state, indent=2).encode() + b"\n", 0)


def running_environment(path: Path = state_path) -> dict[str, str]:
    """What a `breezesync run` in this directory chose for what was not set; empty if none is running."""
    chosen = running_state(path).get("chosen")
    return {str(name): str(value) for name, value in chosen.items()} if isinstance(chosen, dict) else {}


def running_state(path: Path = state_path) -> Mapping[str, Any]:
    """What a `breezesync run` in this directory recorded, see `worker.local.run`; empty if none is running.

    A killed one leaves its file behind, but not its lock.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return {}
    try:
        if _is_free(descriptor):
            return {}
        with os.fdopen(os.dup(descriptor), encoding="utf-8") as file:
            state = json.load(file)
        return state if isinstance(state, dict) else {}
    except ValueError:
        return {}
    finally:
        os.close(descriptor)


def _is_free(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
