"""Start the example application with the settings of a running `breezesync run`."""

import os
import sys
from pathlib import Path

from config.environment import SettingsError
from config.settings import read_settings
from worker.local.state import running_state

here = Path(__file__).parent
port = os.environ.get("APP_PORT", "8710")
origin = f"http://127.0.0.1:{port}"


def main() -> None:
    os.umask(0o077)
    state = running_state()
    if not state:
        sys.exit("breezesync is not running here. Start it with `make run` in another terminal, then run this again.")
    try:
        settings = read_settings({**os.environ, **state["environment"]}, needs={"links"})
    except SettingsError as error:
        sys.exit(str(error))
    if origin not in settings.return_origins:
        sys.exit(f"breezesync does not redirect to {origin}. Add it to RETURN_ORIGINS and restart breezesync.")
    environment = {
        **os.environ,
        "BREEZESYNC_URL": state["web_url"],
        "DATABASE_URL": settings.database_url.reveal(),
        "REDIS_URL": settings.redis_url.reveal(),
        "CONNECT_SECRET": settings.connect_secrets[0].reveal(),
        "EVENTS_STREAM": settings.events_stream,
        "COMMANDS_STREAM": settings.commands_stream,
        "APP_URL": origin,
        "APP_DATABASE_URL": f"sqlite:///{Path('var/example.db').resolve()}",
    }
    print(f"The example application is on {origin}. Ctrl-C stops it.")
    if state["sandbox_url"]:
        print(f"Sign, rename or revoke in the sandbox at {state['sandbox_url']}/_sandbox, and watch the application.")
    sys.stdout.flush()
    command = ["uvicorn", "--app-dir", str(here / "python"), "--factory", "app:build", "--port", port]
    os.execve(sys.executable, [sys.executable, "-m", *command, "--log-level", "warning"], environment)  # noqa: S606


if __name__ == "__main__":
    main()
