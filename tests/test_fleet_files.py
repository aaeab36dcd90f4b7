"""The fleet's files keep their promises: read as Compose reads them, without Docker."""

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from config.settings import Settings, read_settings
from models.crypto.secrets import Secret
from models.crypto.vault import new_key, parse_keys
from models.gateway.keys import find_key, parse_gateway_keys
from models.store.grants import parse_roles, processes
from worker.tracing.start import find_exporter
from worker.web.guard import Allowance

CHECKOUT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DATA = {"postgres", "redis"}
OBSERVERS = {"prometheus", "grafana"}
ONE_OFF = {"migrate", "demo", "cli"}
OURS = sorted(set(SERVICES) - DATA - OBSERVERS)
LASTING = sorted(set(SERVICES) - ONE_OFF)
NEEDED_BY_ENTRYPOINTS = {
    "postgres": {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"},
    "redis": {"SETGID", "SETUID"},
}
"""The capabilities with which an image's entrypoint becomes its own user; what it then starts has none."""
DOCKERFILE = (CHECKOUT / "Dockerfile").read_text().replace("\\\n", " ")


def instructions(name: str) -> list[str]:
    return [line.split(None, 1)[1] for line in DOCKERFILE.splitlines() if line.startswith(f"{name} ")]


def seconds(text: str) -> int:
    match = re.fullmatch(r"(\d+)s", text)
    assert match is not None, text
    return int(match[1])


def environment(service: str) -> dict[str, str]:
    """What Compose puts in, with nothing set on the host."""
    return {
        name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))
        for name, value in SERVICES[service]["environment"].items()
    }


def test_compose_1_and_2_both_know_every_key_at_the_top() -> None:
    assert {key for key in COMPOSE if not key.startswith("x-")} == {"services", "networks", "volumes", "secrets"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_writes_nowhere_gains_no_rights_and_leaves_no_core_file(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert set(service.get("cap_add", [])) == NEEDED_BY_ENTRYPOINTS.get(name, set())
    assert set(service) & {"privileged", "user", "devices", "network_mode", "pid", "ipc"} == set()
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["ulimits"] == {"core": 0}
    assert [mount.split(":")[0] for mount in service["tmpfs"]] == ["/tmp"]  # noqa: S108 - a mount


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_has_limits_and_keeps_its_logs_small(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert service["cpus"] > 0
    assert service["pids_limit"] > 0
    assert "max-size" in service["logging"]["options"]


@pytest.mark.parametrize("name", LASTING)
def test_every_service_that_lasts_is_watched_and_started_again(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")


def test_what_is_run_once_is_not_run_again() -> None:
    assert {name for name, service in SERVICES.items() if service["restart"] == "no"} == ONE_OFF
    assert {"demo", "cli"} == {name for name in ONE_OFF if "profiles" in SERVICES[name]}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_secret_is_in_a_services_environment_and_each_that_is_named_is_mounted(name: str) -> None:
    service = SERVICES[name]
    values = service.get("environment", {})
    secret = re.compile(r"SECRET|PASSWORD|TOKEN(?!_URL|_REQUESTS)|(?<!WITHOUT_)KEYS|CLIENT_ID|DATABASE_URL|REDIS_URL")
    assert [variable for variable in values if secret.search(variable) and not variable.endswith("_FILE")] == []
    parts = [*values.values(), *service.get("command", []), *service.get("healthcheck", {}).get("test", [])]
    used = {found for part in parts for found in re.findall(r"/run/secrets/(\w+)", str(part))}
    assert used == set(service.get("secrets", []))
    assert used <= set(COMPOSE["secrets"])


def test_each_secret_is_a_file_that_make_writes() -> None:
    paths = {name: secret["file"] for name, secret in COMPOSE["secrets"].items()}
    assert paths == {name: f"./secrets/{name}" for name in paths}


def test_a_key_and_a_client_are_where_they_are_needed_only() -> None:
    with_keys = {name for name, service in SERVICES.items() if "encryption_keys" in service.get("secrets", [])}
    assert with_keys == {"worker", "gateway", "demo", "cli"}
    with_client = {
        name for name, service in SERVICES.items() if "breezedoc_client_secret" in service.get("secrets", [])
    }
    assert with_client == with_keys - {"gateway"}, "which presents no token and no code"
    assert SERVICES["scheduler"]["secrets"] == ["scheduler_database_url", "scheduler_redis_url"]


def test_web_has_nothing_that_opens_a_token_and_what_it_seals_the_workers_open(fleet: Path) -> None:
    holders = {name for name, service in SERVICES.items() if "sealing_key" in service.get("secrets", [])}
    assert holders == {"web"}
    web = read_settings(in_files(fleet, "web"), env_file=None, needs=("sealing", "registrations", "links"))
    worker = read_settings(in_files(fleet, "worker"), env_file=None, needs=("keys", "clients"))
    assert (web.encryption_keys, web.clients) == ((), ())
    assert web.sealing_key == worker.encryption_keys[0].sealing_key
    assert [client.client_id for client in web.registrations] == [client.client_id for client in worker.clients]


@pytest.mark.parametrize("name", ["migrate", "web", "worker", "scheduler", "gateway", "cli"])
def test_each_process_has_its_own_role_in_the_database_and_its_own_user_in_redis(fleet: Path, name: str) -> None:
    mounted = [secret for secret in SERVICES[name]["secrets"] if secret.endswith(("_database_url", "_redis_url"))]
    expected = {"migrate": ["migrate_database_url"]}
    assert mounted == expected.get(name, [f"{name}_database_url", f"{name}_redis_url"])
    users = [urlsplit(held(fleet)[secret]).username for secret in mounted]
    assert users == {"migrate": ["breezesync"]}.get(name, [f"breezesync_{name}", name])


def test_the_operator_s_page_has_the_command_line_s_role_and_no_key() -> None:
    assert SERVICES["operator"]["secrets"] == [
        "cli_database_url",
        "cli_redis_url",
        "breezedoc_client_id",
        "operator_token",
    ]


def test_nothing_but_what_people_open_can_be_reached_and_these_from_this_machine_only() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {
        "web": ["127.0.0.1:${WEB_PORT-8700}:8700", "127.0.0.1:${OPERATOR_PORT-8701}:8701"],
        "operator": ["127.0.0.1:${OPERATOR_PAGE_PORT-8703}:8701"],
        "gateway": ["127.0.0.1:8702:8702"],
        "sandbox": ["127.0.0.1:${SANDBOX_PORT-8799}:8799"],
        "prometheus": ["127.0.0.1:9090:9090"],
        "grafana": ["127.0.0.1:3000:3000"],
    }


def test_each_network_has_those_in_it_who_have_to_meet_there() -> None:
    members = {
        network: {name for name, service in SERVICES.items() if network in service["networks"]}
        for network in COMPOSE["networks"]
    }
    assert members == {
        "public": {"web", "operator", "demo"},
        "calls": {"gateway"},
        "provider": {"worker", "gateway", "cli", "sandbox", "demo"},
        "database": {"postgres", "migrate", "web", "operator", "worker", "scheduler", "gateway", "cli", "demo"},
        "redis": {"redis", "web", "operator", "worker", "scheduler", "gateway", "cli", "demo"},
        "metrics": {"web", "worker", "scheduler", "gateway", "prometheus"},
        "boards": {"prometheus", "grafana"},
    }
    assert [COMPOSE["networks"][name] for name in ("database", "redis", "metrics")] == [{"internal": True}] * 3
    options = COMPOSE["networks"]["public"]["driver_opts"]
    assert options == {"com.docker.network.bridge.enable_ip_masquerade": "false"}, "web has no one to call"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_image_is_ours_or_has_a_version(name: str) -> None:
    service = SERVICES[name]
    if name in OURS:
        is_sandbox = name in ("sandbox", "demo")
        args = {"PYTHON_IMAGE": default_of("PYTHON_IMAGE")}
        own = {"target": "sandbox"} if is_sandbox else {}
        args |= {} if is_sandbox else {"REQUIREMENTS": "${REQUIREMENTS:-requirements.txt}"}
        assert service["build"] == {"context": ".", "args": args, **own}
        assert service["image"].startswith("breezesync-sandbox:" if is_sandbox else "breezesync:")
    elif name in OBSERVERS:
        assert service["profiles"] == ["observability"]
        assert re.fullmatch(rf"\$\{{{name.upper()}_IMAGE:-[a-z]+/{name}:v?\d+\.\d+\.\d+\}}", service["image"])
    else:
        assert service["image"] == default_of(f"{name.upper()}_IMAGE")


def default_of(variable: str) -> str:
    """The reference to a variable whose default is the tag that the variable's digest belongs to."""
    tag, _ = COMPOSE["x-digests"][variable].split("@")
    return f"${{{variable}:-{tag}}}"


@pytest.mark.parametrize("variable", ["POSTGRES_IMAGE", "REDIS_IMAGE", "PYTHON_IMAGE"])
def test_every_image_has_a_digest_that_make_up_takes(fleet: Path, variable: str, tmp_path: Path) -> None:
    pinned = COMPOSE["x-digests"][variable]
    assert re.fullmatch(r"[a-z]+:\d+(\.\d+)*(-slim)?@sha256:[0-9a-f]{64}", pinned)
    assert f"{variable}={pinned}" in up(fleet, tmp_path, "exit 1").split()
    assert f"{variable}={pinned}" in up(fleet, tmp_path, "echo 1").split(), "pulled before"
    assert variable not in up(fleet, tmp_path, "echo 0"), "built on this machine: it has no digest"


def up(fleet: Path, directory: Path, digests: str) -> str:
    """What `make up` would run, where `docker image inspect` does this."""
    return make_with_docker(fleet, directory, f'[ "$1" != image ] || {digests}', "-n", "up").stdout


def make_with_docker(
    fleet: Path, directory: Path, script: str, *arguments: str, check: bool = True, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run make where `docker` is this script."""
    docker = directory / "docker"
    docker.write_text(f"#!/bin/sh\n{script}\n")
    docker.chmod(0o755)
    environment = {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}", **variables}
    command = ["make", *arguments]
    return subprocess.run(command, cwd=fleet, env=environment, check=check, capture_output=True, text=True, timeout=60)


def test_the_image_is_not_roots_and_comes_from_a_version() -> None:
    assert f"PYTHON_IMAGE={COMPOSE['x-digests']['PYTHON_IMAGE'].split('@')[0]}" == instructions("ARG")[0]
    assert DOCKERFILE.rindex("\nUSER 10001:10001\n") > DOCKERFILE.rindex("\nFROM ")
    assert "--require-hashes" in DOCKERFILE


def test_the_image_gets_the_libraries_before_the_code_and_nothing_that_may_be_a_secret() -> None:
    copied = [source for line in instructions("COPY") for source in line.split()[:-1] if not source.startswith("--")]
    code = ["pyproject.toml", "config", "models", "scheduler", "worker"]
    sandbox = ["/opt/breezesync", "sandbox"]
    lists = ["requirements.txt", "requirements-otel.txt", "requirements-sandbox.txt"]
    assert copied == [*lists, *code, *sandbox, "/opt/breezesync"]
    ignored = (CHECKOUT / ".dockerignore").read_text().splitlines()
    rules = [line for line in ignored if not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(copied) - {"/opt/breezesync"}
    assert "**/.env" in rules


def test_web_writes_no_access_log() -> None:
    assert "command" not in SERVICES["web"]
    assert "--no-access-log" in instructions("CMD")[-1]


def test_the_proxy_takes_bodies_as_large_as_web_does() -> None:
    text = (CHECKOUT / "deploy/proxy/nginx.conf").read_text()
    everywhere, of_hooks = text.split("location /hooks/ {")
    sizes = [re.findall(r"client_max_body_size (\d+)k;", part) for part in (everywhere, of_hooks)]
    allowance = Allowance()
    assert sizes == [[str(size // 1024)] for size in (allowance.body, allowance.hook_body)]


def test_a_worker_has_handed_back_its_work_before_docker_loses_patience() -> None:
    [given] = [option for option in SERVICES["worker"]["command"] if option.startswith("--worker-shutdown-timeout")]
    patience = seconds(SERVICES["worker"]["stop_grace_period"])
    assert int(given.split("=")[1]) / 1000 + 5 <= 30 < patience


def test_redis_knows_no_one_but_its_users() -> None:
    command = SERVICES["redis"]["command"]
    assert command[1:3] == ["--aclfile", "/run/secrets/redis_users"]
    assert "redis-cli --user health ping" in SERVICES["redis"]["healthcheck"]["test"][1]


def test_redis_keeps_what_it_was_given_and_says_when_it_can_take_no_more() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_two_schedulers_are_usual_and_no_service_waits_for_one_that_never_starts() -> None:
    assert SERVICES["scheduler"]["deploy"]["replicas"] == 2
    for name, service in SERVICES.items():
        for needed, how in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if needed in ONE_OFF else "service_healthy"
            assert how == {"condition": expected}, (name, needed)
            assert "profiles" not in SERVICES[needed]


def test_new_tokens_that_wait_for_the_database_outlive_their_container() -> None:
    [mount] = SERVICES["worker"]["volumes"]
    assert SERVICES["cli"]["volumes"] == [mount], "what waits there is sealed with a key that keys rotate takes out"
    volume, path = mount.split(":")
    assert volume in COMPOSE["volumes"]
    assert f"SPOOL_DIRECTORY={path}" in DOCKERFILE
    assert f"-o breezesync -g breezesync {path}" in DOCKERFILE


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which `make secrets` was run."""
    directory = tmp_path_factory.mktemp("fleet")
    (directory / "config").mkdir()
    for name in ("Makefile", "docker-compose.yml", "docker-compose.sandbox.env", "config/redis_users.acl"):
        shutil.copy(CHECKOUT / name, directory / name)
    shutil.copytree(CHECKOUT / "deploy", directory / "deploy")
    make(directory)
    make_sealing_key(directory, tmp_path_factory.mktemp("docker"))
    return directory


def in_files(fleet: Path, service: str) -> dict[str, str]:
    """What a service finds in its environment, with its secrets in the files that make wrote."""
    return {name: value.replace("/run/secrets", str(fleet / "secrets")) for name, value in environment(service).items()}


def make_sealing_key(fleet: Path, directory: Path) -> None:
    """What `make up` does before it starts anything, with our own command in place of the image's."""
    given = in_files(fleet, "cli")
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in given.items())
    command = f"cd {CHECKOUT} && env {variables} {sys.executable} -m worker keys sealing-key"
    make_with_docker(
        fleet, directory, f'case "$*" in *" cli keys sealing-key") {command};; esac', "secrets/sealing_key"
    )


def make(directory: Path) -> None:
    subprocess.run(["make", "-s", "secrets"], cwd=directory, check=True, timeout=60)


def held(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (directory / "secrets").iterdir()}


def test_an_operator_has_what_web_goes_by() -> None:
    """`doctor` judges them, so they have to be the same."""
    for name in ("RETURN_ORIGINS", "CONNECT_CONFIRMATION"):
        values = {SERVICES[service]["environment"][name] for service in ("web", "cli", "demo")}
        assert len(values) == 1, name


def test_make_writes_every_secret_once_and_for_its_owner_alone(fleet: Path) -> None:
    before = held(fleet)
    assert set(before) == set(COMPOSE["secrets"])
    assert stat.S_IMODE((fleet / "secrets").stat().st_mode) == 0o700
    passwords = [urlsplit(text).password for name, text in before.items() if name.endswith("_url")]
    own = (
        "connect_secret",
        "operator_token",
        "gateway_key",
        "redis_health_password",
        "postgres_password",
        "grafana_password",
    )
    different = {*passwords, *(before[name] for name in own)}
    assert len(different) == len(passwords) + len(own) - 1, "the owner's password is in its URL as well"
    assert before["postgres_password"] in before["migrate_database_url"]
    assert len(parse_keys(before["encryption_keys"])) == 1
    [key] = parse_gateway_keys(before["gateway_keys"])
    assert find_key([key], before["gateway_key"]) == key
    make(fleet)
    assert held(fleet) == before


def test_make_makes_no_new_key_beside_a_database_that_the_old_one_sealed(fleet: Path, tmp_path: Path) -> None:
    keys = fleet / "secrets/encryption_keys"
    before = keys.read_text()
    keys.unlink()
    try:
        refused = make_with_docker(fleet, tmp_path, "exit 0", "secrets", check=False)
        assert (refused.returncode, "Put the file back" in refused.stderr, keys.exists()) == (2, True, False)
        make_with_docker(fleet, tmp_path, "exit 0", "secrets", "NEW_KEY=yes")
        assert keys.read_text().split(":")[0] != before.split(":")[0], "another key has another id"
        assert len(parse_keys(keys.read_text())) == 1
    finally:
        keys.write_text(before)


def test_the_roles_and_users_that_make_writes_have_the_passwords_of_their_urls(fleet: Path) -> None:
    files = held(fleet)
    roles = {role.process: role for role in parse_roles(files["database_roles"])}
    assert set(roles) == set(processes)
    rules = dict(line.split()[1:4:2] for line in files["redis_users"].splitlines() if " #" in line)
    assert set(rules) == {*processes, "health"}
    for process in processes:
        database, redis = (urlsplit(files[f"{process}_{kind}_url"]) for kind in ("database", "redis"))
        assert (roles[process].name, roles[process].password) == (database.username, Secret(database.password or ""))
        assert rules[process] == f"#{sha256((redis.password or '').encode()).hexdigest()}"
    assert rules["health"] == f"#{sha256(files['redis_health_password'].encode()).hexdigest()}"
    assert files["redis_users"].splitlines()[0] == "user default off resetpass ~* &* +@all"


def test_the_sealing_key_follows_the_first_key_and_stays_if_it_cannot_be_derived(fleet: Path, tmp_path: Path) -> None:
    keys = fleet / "secrets/encryption_keys"
    before = held(fleet)
    rotated = f"{new_key('k2').line().reveal()},{before['encryption_keys']}"
    try:
        keys.write_text(rotated)
        os.utime(keys, (0, 0))  # as if it had been put back from a copy
        failed = make_with_docker(fleet, tmp_path, '[ "$1" = image ] || exit 1', "secrets/sealing_key", check=False)
        assert failed.returncode != 0
        assert held(fleet)["sealing_key"] == before["sealing_key"]
        make_sealing_key(fleet, tmp_path)
        assert held(fleet)["sealing_key"].strip() == parse_keys(rotated)[0].sealing_key.line()
        assert not {path.name for path in (fleet / "secrets").iterdir()} - set(before)
    finally:
        keys.write_text(before["encryption_keys"])
        make_sealing_key(fleet, tmp_path)
    assert held(fleet) == before


@pytest.mark.parametrize(
    ("service", "needs"),
    [
        ("web", ("sealing", "registrations", "links")),
        ("worker", ("keys", "clients")),
        ("scheduler", ()),
        ("gateway", ("keys", "gateway")),
        ("migrate", ()),
        ("cli", ("keys", "clients", "links")),
    ],
)
def test_each_process_finds_settings_it_can_start_with(fleet: Path, service: str, needs: Any) -> None:
    settings = read_settings(in_files(fleet, service), env_file=None, needs=needs)
    assert settings.database_url.reveal() == held(fleet)[f"{service}_database_url"]
    assert settings.sync_interval == Settings().sync_interval
    assert (settings.heartbeat_file is not None) is (service in ("worker", "scheduler"))


def test_the_sandbox_is_on_this_machine_for_the_browser_and_by_name_for_the_processes(fleet: Path) -> None:
    lines = (CHECKOUT / "docker-compose.sandbox.env").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    settings = read_settings(given, env_file=None, needs=())
    [provider] = settings.providers
    assert provider.authorize_url.startswith("http://127.0.0.1:8799/")
    assert provider.token_url.startswith("http://sandbox:8799/")
    assert provider.api_url.startswith("http://sandbox:8799/")
    assert given["COMPOSE_PROFILES"] in SERVICES["sandbox"]["profiles"]


def test_the_image_has_opentelemetry_only_if_it_is_asked_for() -> None:
    production, traced = (pins_of(name) for name in ("requirements.txt", "requirements-otel.txt"))
    added = {name.partition("==")[0] for name in traced - production}
    assert production < traced <= pins_of("requirements-dev.txt")
    assert "opentelemetry-sdk" in added
    assert not any(name.startswith("opentelemetry") for name in production)
    assert instructions("ARG")[1] == "REQUIREMENTS=requirements.txt"


def pins_of(name: str) -> set[str]:
    return set(re.findall(r"(?m)^[\w.-]+==\S+", (CHECKOUT / name).read_text()))


def test_every_process_that_traces_is_given_the_variables_that_say_where_to() -> None:
    for name in ("web", "worker", "gateway"):
        given = {variable: value for variable, value in environment(name).items() if variable.startswith("OTEL_")}
        assert find_exporter(given) is None
        assert find_exporter(given | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}) == "otlp_proto_http"
