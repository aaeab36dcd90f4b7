"""Several webs behind a proxy, a fleet that is replaced one by one, commands that mean the fleet `make up` started."""

import re
import shutil
import subprocess
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.settings import read_settings
from tests.test_fleet_files import CHECKOUT, COMPOSE, make_with_docker, seconds

PROXIED: dict[str, Any] = yaml.safe_load((CHECKOUT / "deploy/proxy/compose.yml").read_text())
PROXY: dict[str, Any] = PROXIED["services"]["proxy"]
NGINX = (CHECKOUT / "deploy/proxy/nginx.conf").read_text()


def directives(name: str) -> list[str]:
    return re.findall(rf"^\s*{name}\s+(.*?);", NGINX, flags=re.MULTILINE)


def test_the_proxy_is_confined_as_every_other_service() -> None:
    like = COMPOSE["x-confined"]
    assert {key: PROXY[key] for key in like} == like
    assert set(PROXY) & {"privileged", "user", "cap_add", "network_mode"} == set()
    assert all(key in PROXY for key in ("mem_limit", "cpus", "pids_limit", "healthcheck"))
    assert re.search(r":\d+\.\d+\.\d+\}$", PROXY["image"])


def test_the_proxy_logs_no_request_because_codes_travel_in_urls() -> None:
    assert directives("access_log") == ["off"]
    assert directives("error_log") == ["/dev/stderr alert"]


def test_the_proxy_reads_all_it_needs_and_writes_below_tmp() -> None:
    assert {f"/run/secrets/{name}" for name in PROXY["secrets"]} == {
        *directives("ssl_certificate"),
        *directives("ssl_certificate_key"),
    }
    assert set(PROXIED["secrets"]) == set(PROXY["secrets"])
    written = [path for name in ("pid", r"\w+_temp_path") for path in directives(name)]
    assert len(written) == 6
    assert all(path.startswith("/tmp/") for path in written)  # noqa: S108 - a mount


def test_web_trusts_the_network_in_which_the_proxy_is_alone_with_it() -> None:
    default = re.compile(r"\$\{EDGE_SUBNET:-(.*)\}")
    [pool] = PROXIED["networks"]["edge"]["ipam"]["config"]
    [trusted] = PROXIED["services"]["web"]["environment"].values()
    assert pool["subnet"] == trusted
    found = default.fullmatch(trusted)
    assert found is not None
    network = ip_network(found[1])
    assert list(PROXIED["services"]["web"]["environment"]) == ["TRUSTED_PROXIES"]
    assert read_settings({"TRUSTED_PROXIES": found[1]}, env_file=None, needs=()).trusted_proxies
    assert not any(network.overlaps(ip_network(pool)) for pool in ("172.16.0.0/12", "192.168.0.0/16")), "Docker's own"
    assert "edge" not in COMPOSE["networks"]


def test_the_proxy_forwards_for_the_client_alone() -> None:
    sent = dict(line.split(None, 1) for line in directives("proxy_set_header"))
    assert sent["X-Forwarded-For"] == "$remote_addr", "what a client claims is replaced"
    assert sent["Forwarded"] == '""'
    assert "non_idempotent" not in NGINX, "a form is not sent twice"


def test_the_proxy_ends_after_the_requests_that_are_under_way() -> None:
    assert PROXY["stop_signal"] == "SIGQUIT"
    assert seconds(PROXY["stop_grace_period"]) > seconds(directives("proxy_next_upstream_timeout")[0])


RECORDS = """
case "$*" in
  *"keys sealing-key") echo k1:AAAA ;;
  inspect*) echo healthy ;;
  "volume inspect"*) exit 1 ;;
  compose*) echo "$COMPOSE_PROJECT_NAME $COMPOSE_FILE $SYNC_INTERVAL $BREEZEDOC_REDIRECT_URI ; $*" >>calls ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    directory = tmp_path / "checkout"
    (directory / "config").mkdir(parents=True)
    for name in ("Makefile", "docker-compose.yml", "docker-compose.sandbox.env", "config/redis_users.acl"):
        shutil.copy(CHECKOUT / name, directory / name)
    shutil.copytree(CHECKOUT / "deploy", directory / "deploy")
    return directory


def calls(checkout: Path, ending: str) -> list[str]:
    return [line for line in (checkout / "calls").read_text().splitlines() if line.endswith(ending)]


def test_commands_mean_the_fleet_that_make_up_started(checkout: Path, tmp_path: Path) -> None:
    make_with_docker(checkout, tmp_path, RECORDS, "up", "WEBS=2", COMPOSE_PROJECT_NAME="shop", SYNC_INTERVAL="5m")
    make_with_docker(checkout, tmp_path, RECORDS, "cli", "ARGS=status", COMPOSE_PROJECT_NAME="another")
    [said] = calls(checkout, "cli status")
    files, redirect = "docker-compose.yml:deploy/proxy/compose.yml", "https://localhost:8443/auth/breezedoc/callback"
    assert said.split(" ; ")[0] == f"shop {files} 5m {redirect}"
    assert len(calls(checkout, "--scale web=2")) == 1
    certificate = (checkout / "secrets/tls_certificate").read_text()
    assert certificate.startswith("-----BEGIN CERTIFICATE-----")
    make_with_docker(checkout, tmp_path, RECORDS, "up")
    make_with_docker(checkout, tmp_path, RECORDS, "cli", "ARGS=doctor")
    assert calls(checkout, "cli doctor")[0].split(" ; ")[0].strip() == "", "with nothing given, as it is by itself"


ONE_BY_ONE = """#!/bin/bash
running=$(dirname "$0")/running
note() { echo "$* $(wc -l <"$running")" >>"$(dirname "$0")/log"; }
case "$*" in
  *"run --rm"*) note migrate ;;
  *"ps -q "*) sed -n "s/^${@: -1} //p" "$running" ;;
  stop*) sed -i "/ ${@: -1}$/d" "$running"; note "stop ${@: -1}" ;;
  inspect*) for id in "${@:4}"; do case "$id" in new-1) echo "$NEW";; *) echo healthy;; esac; done ;;
  *" up "*) echo "${@: -1} new-$(( $(grep -c new "$running") + 1 ))" >>"$running"; note "start ${@: -1}" ;;
esac
"""


@pytest.mark.parametrize("new", ["healthy", "unhealthy"])
def test_a_fleet_is_replaced_one_by_one_and_left_at_the_first_that_is_not_healthy(tmp_path: Path, new: str) -> None:
    (tmp_path / "running").write_text("worker a\nworker b\nweb c\nweb d\n")
    for name, script in (("docker", ONE_BY_ONE), ("sleep", "#!/bin/sh\n")):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "NEW": new}
    command = [str(CHECKOUT / "deploy/roll.sh"), "docker", "compose"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    log = (tmp_path / "log").read_text().splitlines()
    expected = ["migrate 4"]
    for service, old in [("worker", "a"), ("worker", "b"), ("web", "c"), ("web", "d")]:
        expected += [f"stop {old} 3", f"start {service} 4"]
    if new == "healthy":
        assert (done.returncode, log) == (0, expected), done.stderr
    else:
        assert (done.returncode, log) == (1, expected[:3]), done.stderr
        assert "worker: 1 of 2 are healthy" in done.stderr
