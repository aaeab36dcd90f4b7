"""The commands of the processes of one machine."""

import sys
from collections.abc import Mapping
from pathlib import Path

from worker.local.state import callback_url

host = "127.0.0.1"
rooms = str(Path(__file__).parents[2])
"""Where `worker` and its like are. uvicorn and Dramatiq look in the working directory first if they are given none, and
there may be a project with a `worker` of its own."""


def sandbox_command(sandbox_url: str, web_url: str, provider: str, kept_in: Path) -> list[str]:
    """Return users to the web process by either name of this machine; remember them from run to run."""
    port = sandbox_url.rpartition(":")[2]
    redirects = [callback_url(provider, base) for base in (web_url, web_url.replace(host, "localhost"))]
    kept = ["--state-file", str(kept_in.resolve())]
    return [sys.executable, "-m", "sandbox", "--port", port, *kept, "--redirect-uri", *redirects]


def web_command(port: int) -> list[str]:
    """Without an access log: connect links and codes travel in URLs."""
    options = ["--host", host, "--port", str(port), "--no-access-log", "--timeout-graceful-shutdown", "10"]
    return [sys.executable, "-m", "uvicorn", "--factory", "worker.main:web", "--app-dir", rooms, *options]


def gateway_command(url: str) -> list[str]:
    """Without an access log: paths at a provider may say much about its user."""
    options = ["--host", host, "--port", url.rpartition(":")[2], "--no-access-log"]
    return [sys.executable, "-m", "uvicorn", "--factory", "worker.main:gateway", "--app-dir", rooms, *options]


def worker_command(processes: int) -> list[str]:
    options = ["--processes", str(processes), "--threads", "8", "--worker-shutdown-timeout", "25000"]
    return [sys.executable, "-m", "dramatiq", "worker.main:boot", *options, "--path", rooms]


def quick_worker(environment: Mapping[str, str]) -> dict[str, str]:
    """An idle consumer asks for messages ten times a second instead of once: a person is watching."""
    return {"dramatiq_worker_timeout": "100", **environment}
