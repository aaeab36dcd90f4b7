"""The alerts, their runbook and the board speak of metrics that exist."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from worker.__main__ import build_app
from worker.metrics.catalog import in_worker, of_fleet

root = Path(__file__).parents[1]
directory = root / "deploy" / "observability"
alerts: list[dict[str, Any]] = yaml.safe_load((directory / "alerts.yml").read_text())["groups"][0]["rules"]
board: dict[str, Any] = json.loads((directory / "grafana/dashboards/breezesync.json").read_text())
queries = {panel["title"]: [target["expr"] for target in panel.get("targets", [])] for panel in board["panels"]}
runbook = (root / "docs" / "runbook.md").read_text()
by_name = {each.full_name: each for each in (*in_worker, *of_fleet)}
names = {series for name in by_name for series in (name, *(f"{name}_{end}" for end in ("bucket", "sum", "count")))}
not_labels = {"le", "job", "instance"}


def find_faults(query: str) -> set[str]:
    """Return the metrics and labels of a query that no process shows."""
    faults = {name for name in re.findall(r"breezesync_\w+", query) if name not in names}
    for name, selector in re.findall(r"(breezesync_\w+)\{([^}]*)\}", query):
        family = by_name.get(re.sub(r"_(bucket|sum|count)$", "", name)) or by_name.get(name)
        known = set(family.labels) | not_labels if family else set()
        faults |= set(re.findall(r"(\w+)(?=[=!]=?~?\")", selector)) - known
    every_label = {label for family in by_name.values() for label in family.labels} | not_labels
    for group in re.findall(r"by \(([^)]*)\)", query):
        faults |= {label.strip() for label in group.split(",")} - every_label
    return faults


def test_a_query_of_what_no_one_shows_is_found() -> None:
    query = 'sum by (shoe) (breezesync_due{sort="x"}) / breezesync_nothing'
    assert find_faults(query) == {"shoe", "sort", "breezesync_nothing"}


@pytest.mark.parametrize("alert", alerts, ids=lambda alert: str(alert["alert"]))
def test_an_alert_asks_for_what_is_shown_and_has_its_paragraph(alert: dict[str, Any]) -> None:
    assert find_faults(alert["expr"]) == set()
    name = alert["alert"]
    assert alert["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
    [paragraph] = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", runbook, re.MULTILINE | re.DOTALL)
    assert all(part in paragraph for part in ("**Symptom.**", "**Meaning.**", "**Type**"))
    assert alert["labels"]["severity"] in ("warning", "critical")


def test_the_runbook_has_no_paragraph_without_an_alert() -> None:
    assert re.findall(r"^## (.*)$", runbook, re.MULTILINE) == [alert["alert"] for alert in alerts]


def test_every_command_of_the_runbook_exists() -> None:
    app = build_app()
    known = {each.name or getattr(each.callback, "__name__", "") for each in app.registered_commands}
    known |= {group.name for group in app.registered_groups}
    typed = re.findall(r"^make cli ARGS='?([\w-]+)", runbook, re.MULTILINE)
    assert typed
    assert set(typed) <= known


@pytest.mark.parametrize("title", [title for title, asked in queries.items() if asked])
def test_a_panel_asks_for_what_is_shown(title: str) -> None:
    assert [find_faults(query) for query in queries[title]] == [set()] * len(queries[title])


def test_every_metric_that_is_counted_is_on_the_board() -> None:
    everything = " ".join(query for asked in queries.values() for query in asked)
    missing = {name for name in by_name if name not in everything}
    assert missing == {"breezesync_clock_offset_seconds"}, "it is a web process's own, and has an alert"


def test_every_alert_has_a_test_that_it_fires() -> None:
    tests = yaml.safe_load((directory / "alerts_test.yml").read_text())["tests"]
    fired = {each["alertname"] for test in tests for each in test["alert_rule_test"] if each["exp_alerts"]}
    assert fired == {alert["alert"] for alert in alerts}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_the_alerts_fire_when_they_should() -> None:
    subprocess.run(["promtool", "test", "rules", "alerts_test.yml"], cwd=directory, check=True, timeout=60)
    subprocess.run(["promtool", "check", "config", "prometheus.yml"], cwd=directory, check=True, timeout=60)
