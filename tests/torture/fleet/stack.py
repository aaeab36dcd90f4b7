"""The fleet of a trial: a copy of this checkout with secrets and a project of its own, started as anyone starts it."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[3]
FILES = "docker-compose.yml:tests/torture/fleet/compose.yml"
ROLES = ("web", "worker", "scheduler", "postgres", "redis", "sandbox", "proxy")
KILL_ALL_BUT_INIT = (
    "import os, signal; [os.kill(int(p), signal.SIGKILL) for p in os.listdir('/proc') "
    "if p.isdigit() and int(p) not in (1, os.getpid())]"
)


def copy_checkout(target: Path) -> None:
    """Copy what belongs to the checkout; the secrets and the data of an earlier trial stay in `target`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (CHECKOUT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, target / name)


@dataclass(frozen=True, slots=True)
class Stack:
    """Runs make, Compose and Docker for one project in one directory."""

    directory: Path
    project: str = "breezesync-trial"
    port: int = 8453

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "COMPOSE_PROJECT_NAME": self.project,
            "COMPOSE_FILE": f"{FILES}:deploy/proxy/compose.yml",
            "BREEZESYNC_TAG": "trial",
        }

    def up(self, sync_interval: int) -> None:
        """Start two webs behind the proxy, three workers, two schedulers and the sandbox."""
        numbers = ("WEBS=2", "WORKERS=3", "SCHEDULERS=2", f"SYNC_INTERVAL={sync_interval}s")
        self.run("make", "up", *numbers, COMPOSE_FILE=FILES, SANDBOX_PORT="", PROXY_PORT=str(self.port))

    def run(self, *command: str, **variables: str) -> str:
        """Return what a command printed. Raises RuntimeError with its last lines if it fails."""
        environment = {**self.environment(), **variables}
        done = subprocess.run(
            command, cwd=self.directory, env=environment, capture_output=True, text=True, check=False, timeout=1800
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {(done.stderr or done.stdout)[-1500:]}")
        return done.stdout

    def compose(self, *words: str) -> str:
        is_new = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
        name = ("docker", "compose") if is_new else ("docker-compose",)
        return self.run(*name, "--env-file", "docker-compose.sandbox.env", *words)

    def containers(self, service: str, *, every: bool = False) -> list[str]:
        """Return the ids of a service's containers: those that run, or those that stopped as well."""
        label = "label=com.docker.compose"
        filters = ("--filter", f"{label}.project={self.project}", "--filter", f"{label}.service={service}")
        one_off = ("--filter", f"{label}.oneoff=False")
        return self.run("docker", "ps", "--quiet", *(["--all"] if every else []), *filters, *one_off).split()

    def inspect(self, containers: Sequence[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.run("docker", "inspect", *containers)) if containers else []
        return found

    def address(self, service: str, network: str) -> str:
        """Return a container's address, which this machine reaches on Linux though no port of it is published."""
        [first, *_] = self.inspect(self.containers(service))
        return str(first["NetworkSettings"]["Networks"][f"{self.project}_{network}"]["IPAddress"])

    def secret(self, name: str) -> str:
        return (self.directory / "secrets" / name).read_text().strip()

    def kill_processes_of(self, container: str) -> None:
        """Kill what runs in a container from within: Docker starts it again, as after any crash."""
        command = ["docker", "exec", container, "python", "-c", KILL_ALL_BUT_INIT]
        subprocess.run(command, capture_output=True, check=False)

    def restart(self, service: str) -> None:
        self.run("docker", "restart", "--time", "60", *self.containers(service))

    def cut_off(self, service: str, network: str) -> None:
        [container] = self.containers(service)
        self.run("docker", "network", "disconnect", f"{self.project}_{network}", container)

    def connect_again(self, service: str, network: str) -> None:
        [container] = self.containers(service)
        name = f"{self.project}_{network}"
        self.run("docker", "network", "connect", "--alias", service, name, container)
        deadline = time.monotonic() + 30
        while not self.inspect([container])[0]["NetworkSettings"]["Networks"].get(name) and time.monotonic() < deadline:
            time.sleep(0.2)

    def unhealthy(self) -> list[str]:
        """Return the names of containers that are not running and healthy; Docker's error if one goes meanwhile."""
        try:
            found = self.inspect([id_ for service in ROLES for id_ in self.containers(service, every=True)])
        except RuntimeError as error:
            return [str(error)]
        return [
            str(each["Name"]).lstrip("/")
            for each in found
            if not each["State"]["Running"] or each["State"].get("Health", {}).get("Status", "healthy") != "healthy"
        ]
