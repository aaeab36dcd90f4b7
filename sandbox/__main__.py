"""Run the sandbox as a process, with options from the command line or from SANDBOX_… variables."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from sandbox.keeping import KeptStateError
from sandbox.server import run_process
from sandbox.settings import Settings

_NUMBERS = {
    "passport": "12 or 13: which version's answers",
    "access_ttl": "lifetime of an access token in seconds",
    "refresh_ttl": "lifetime of a refresh token in seconds",
    "rate_limit": "API requests per minute and user, 0: no limit",
    "token_rate_limit": "token requests per minute and IP, 0: no limit",
    "latency_ms": "milliseconds added to every answer",
}


def read_options(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[Settings, str, int]:
    """Return settings, host and port. Exits with 2 and a message if an option is wrong."""
    defaults = Settings()
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="A BreezeDoc for tests.")

    def take(name: str, fallback: object) -> str:
        return environment.get(f"SANDBOX_{name.upper()}", str(fallback))

    parser.add_argument("--host", default=take("host", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=take("port", 8799), help="0: any free port")
    parser.add_argument("--client-id", default=take("client_id", defaults.client_id))
    parser.add_argument("--client-secret", default=take("client_secret", defaults.client_secret))
    parser.add_argument("--redirect-uri", nargs="+", action="extend", metavar="URI")
    for name, text in _NUMBERS.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=int, default=take(name, getattr(defaults, name)), help=text)
    parser.add_argument(
        "--state-file",
        default=take("state_file", ""),
        metavar="FILE",
        help="keep grants, accounts and documents in this file between runs",
    )
    chosen = parser.parse_args(arguments)
    uris = chosen.redirect_uri or environment.get("SANDBOX_REDIRECT_URI", "").replace(",", " ").split()
    try:
        settings = Settings(
            client_id=chosen.client_id,
            client_secret=chosen.client_secret,
            redirect_uris=tuple(uris) or defaults.redirect_uris,
            state_file=chosen.state_file,
            **{name: getattr(chosen, name) for name in _NUMBERS},
        )
    except ValueError as problem:
        parser.error(str(problem))
    return settings, chosen.host, chosen.port


def main() -> None:
    settings, host, port = read_options(sys.argv[1:], os.environ)
    try:
        run_process(settings, host, port)
    except OSError as problem:
        sys.exit(f"can't listen on {host}:{port}: {problem.strerror}")
    except KeptStateError as problem:
        sys.exit(str(problem))


if __name__ == "__main__":
    main()
