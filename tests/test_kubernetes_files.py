"""The files for Kubernetes are valid, and of the same shape as those for Compose: read without a cluster."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from starlette.applications import Starlette
from starlette.routing import Route

from config.profiles import override_variables
from config.settings import read_settings
from config.variables import ClientVariables, Variables
from tests.test_fleet_files import CHECKOUT, COMPOSE, SERVICES, seconds
from worker.metrics.catalog import queue_messages
from worker.web.operator import build_operator_app

ROOMS = ("base", "migrate")
ROOT = CHECKOUT / "deploy/kubernetes"


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


KUSTOMIZED = {room: documents(ROOT / room / "kustomization.yaml")[0] for room in ROOMS}
OBJECTS = [each for room in ROOMS for name in KUSTOMIZED[room]["resources"] for each in documents(ROOT / room / name)]
WORKLOADS = {
    each["metadata"]["labels"]["app.kubernetes.io/component"]: each
    for each in OBJECTS
    if each["kind"] in ("Deployment", "Job")
}
PODS = {name: each["spec"]["template"]["spec"] for name, each in WORKLOADS.items()}
BESIDE_COMPOSE = ("web", "gateway", "worker", "scheduler", "cli", "migrate")
SETTINGS = dict(
    literal.split("=", 1) for made in KUSTOMIZED["base"]["configMapGenerator"] for literal in made["literals"]
)


def container(name: str) -> dict[str, Any]:
    [only] = PODS[name]["containers"]
    assert isinstance(only, dict)
    return only


def environment(name: str) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(name)["env"]}


def kinds(kind: str) -> Iterator[dict[str, Any]]:
    return (each for each in OBJECTS if each["kind"] == kind)


def test_every_object_fits_the_schema_of_kubernetes() -> None:
    for each in OBJECTS:
        kubernetes_validate.validate(each, "1.33", strict=True)


def test_every_file_is_in_a_kustomization() -> None:
    for room in ROOMS:
        files = {path.name for path in (ROOT / room).glob("*.yaml")} - {"kustomization.yaml"}
        assert files == set(KUSTOMIZED[room]["resources"])


def test_the_processes_are_those_of_compose_and_the_operators_listener() -> None:
    assert {name: each["spec"].get("replicas") for name, each in WORKLOADS.items()} == {
        "web": 2,
        "gateway": 2,
        "worker": None,
        "scheduler": 2,
        "operator": 1,
        "cli": 0,
        "migrate": None,
    }


@pytest.mark.parametrize("name", sorted(PODS))
def test_a_pod_gains_no_rights_writes_nowhere_and_has_limits(name: str) -> None:
    pod, only = PODS[name], container(name)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(only["resources"]) == {"requests", "limits"}
    assert all(set(given) == {"cpu", "memory"} for given in only["resources"].values())


@pytest.mark.parametrize("name", sorted(BESIDE_COMPOSE))
def test_a_process_has_the_memory_and_the_secrets_that_it_has_in_compose(name: str) -> None:
    service = SERVICES[name]
    assert container(name)["resources"]["limits"]["memory"] == service["mem_limit"].replace("m", "Mi")
    assert mounted(name) == set(service["secrets"])


def mounted(name: str) -> set[str]:
    [secret] = [volume["secret"] for volume in PODS[name]["volumes"] if "secret" in volume]
    assert secret["secretName"] == "breezesync"
    assert all(item["key"] == item["path"] for item in secret["items"])
    return {item["key"] for item in secret["items"]}


@pytest.mark.parametrize("name", sorted(PODS))
def test_every_variable_is_a_setting_and_a_secret_is_a_file_that_is_mounted(name: str) -> None:
    fields = Variables.model_fields
    known = {(fields[each].alias or each).upper() for each in fields}
    known |= {f"BREEZEDOC_{each.upper()}" for each in ClientVariables.model_fields} | set(
        override_variables("breezedoc")
    )
    given = environment(name)
    assert {variable.removesuffix("_FILE") for variable in {*given, *SETTINGS} - {"HEARTBEAT_FILE"}} <= known
    files = {variable: value for variable, value in given.items() if value.startswith("/run/secrets/")}
    assert all(variable.endswith("_FILE") for variable in files)
    directories, used = zip(*(value.rsplit("/", 1) for value in files.values()), strict=True)
    [mount] = [each for each in container(name)["volumeMounts"] if each["name"] == "secrets"]
    assert set(directories) == {mount["mountPath"]}
    in_command = {each.rsplit("/", 1)[1] for each in container(name).get("command", []) if each.startswith("/run/")}
    assert {*used, *in_command} == mounted(name)
    secret = re.compile(r"SECRET|PASSWORD|TOKEN(?!_URL)|KEYS|DATABASE_URL|REDIS_URL")
    assert [variable for variable in {*given, *SETTINGS} if secret.search(variable) and variable not in files] == []


def test_the_settings_can_be_read() -> None:
    settings = read_settings(SETTINGS | {"BREEZEDOC_CLIENT_ID": "client"}, env_file=None, needs=["registrations"])
    assert settings.registrations[0].redirect_uri.startswith("https://")


@pytest.mark.parametrize("name", ["web", "operator"])
def test_a_probe_asks_for_what_the_operators_listener_answers(name: str) -> None:
    app = build_operator_app({}).app
    assert isinstance(app, Starlette)
    routes = [route for route in app.routes if isinstance(route, Route)]
    ports = {port["name"]: port["containerPort"] for port in container(name)["ports"]}
    assert ports["operator"] == 8701
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container(name)[probe]["httpGet"]
        assert asked["port"] == "operator"
        assert asked["path"] in {route.path for route in routes}
    assert container(name)["livenessProbe"]["httpGet"]["path"] != "/readyz", "a restart would not bring the database"


@pytest.mark.parametrize("name", ["worker", "scheduler"])
def test_a_process_without_a_listener_is_judged_by_its_heartbeat_as_in_compose(name: str) -> None:
    _, in_compose = SERVICES[name]["healthcheck"]["test"]
    for probe in ("livenessProbe", "readinessProbe"):
        assert container(name)[probe]["exec"]["command"] == ["sh", "-c", in_compose.replace("$$", "$")]
    assert container(name)["command"] == SERVICES[name]["command"]


def test_the_gateway_is_asked_and_started_as_in_compose() -> None:
    in_compose = SERVICES["gateway"]
    assert container("gateway")["command"] == in_compose["command"]
    assert {port["containerPort"] for port in container("gateway")["ports"]} == {8702, 9102}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container("gateway")[probe]["httpGet"]["port"] == "http"
    ready = container("gateway")["readinessProbe"]["httpGet"]["path"]
    assert any(f"8702{ready}" in word for word in in_compose["healthcheck"]["test"])


def test_one_image_runs_all_and_both_kustomizations_name_the_same() -> None:
    assert {container(name)["image"] for name in PODS} == {"breezesync"}
    assert KUSTOMIZED["base"]["images"] == KUSTOMIZED["migrate"]["images"]
    assert {each["namespace"] for each in KUSTOMIZED.values()} == {"breezesync"}


def test_a_process_has_as_long_to_stop_as_in_compose() -> None:
    for name in ("web", "gateway", "worker", "scheduler"):
        assert PODS[name]["terminationGracePeriodSeconds"] == seconds(SERVICES[name]["stop_grace_period"])


def test_one_of_each_that_has_several_stays_while_nodes_are_drained() -> None:
    budgets = {each["metadata"]["name"]: each["spec"] for each in kinds("PodDisruptionBudget")}
    assert set(budgets) == {"breezesync-web", "breezesync-gateway", "breezesync-worker", "breezesync-scheduler"}
    for name, spec in budgets.items():
        component = name.removeprefix("breezesync-")
        labels = WORKLOADS[component]["spec"]["template"]["metadata"]["labels"]
        assert spec == {"minAvailable": 1, "selector": {"matchLabels": labels}}


def test_workers_follow_a_metric_that_the_fleet_has() -> None:
    [scaler] = kinds("HorizontalPodAutoscaler")
    assert scaler["spec"]["scaleTargetRef"]["name"] == WORKLOADS["worker"]["metadata"]["name"]
    [metric] = [each["external"]["metric"] for each in scaler["spec"]["metrics"]]
    [rule] = documents(ROOT / "prometheus-adapter.yaml")[0]["rules"]["external"]
    assert metric["name"] == rule["name"]["as"] == rule["seriesQuery"]
    assert metric["name"] == queue_messages.full_name
    assert set(metric["selector"]["matchLabels"]) <= set(queue_messages.labels)


def reached(kind: str, port: int) -> set[str]:
    """The components for which a network policy opens the port."""
    found = set[str]()
    for policy in kinds("NetworkPolicy"):
        rules = policy["spec"].get(kind, ())
        if any(each["port"] == port for rule in rules for each in rule["ports"]):
            [chosen] = policy["spec"]["podSelector"]["matchExpressions"]
            found |= set(chosen["values"])
    return found


def test_the_network_is_as_narrow_as_in_compose() -> None:
    members = {
        network: {name for name in PODS if network in SERVICES.get(name, {"networks": ()})["networks"]}
        for network in COMPOSE["networks"]
    }
    assert reached("egress", 5432) == members["database"] | {"operator"}
    assert reached("egress", 6379) == members["redis"] | {"operator"}
    assert reached("egress", 443) == members["provider"]
    assert reached("ingress", 8700) == members["public"] - {"operator"}
    assert reached("ingress", 8702) == members["calls"]
    everything = [each for each in kinds("NetworkPolicy") if set(each["spec"]) == {"podSelector", "policyTypes"}]
    assert [each["spec"]["policyTypes"] for each in everything] == [["Ingress", "Egress"]]


def test_a_service_leads_to_a_port_that_its_pods_have() -> None:
    for service in kinds("Service"):
        component = service["spec"]["selector"]["app.kubernetes.io/component"]
        names = {port["name"] for port in container(component)["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
