"""Processes whose clock is off: `status` and `doctor` name each of them."""

from datetime import UTC, datetime, timedelta

import pytest

from config.process_reports import name_process
from models.process import Process
from tests.cli.conftest import Desk


def report(desk: Desk, process: str, ahead: float, age: float = 0) -> None:
    """Report as a process does that has measured its clock some seconds ago."""
    measured_at = datetime.now(UTC) - timedelta(seconds=age)
    with desk.house.store.writing() as tx:
        tx.processes.report(Process(process, process.split(maxsplit=1)[0], "0.1.0", measured_at, ahead))


def test_status_names_each_process_whose_clock_is_off(either_desk: Desk) -> None:
    desk = either_desk
    for process, ahead in {"worker a:1": 70, "scheduler b:2": -1.5, "web c:3": 0}.items():
        report(desk, process, ahead)
    report(desk, "worker gone:4", 70, age=121)
    found = {clock["process"]: clock["ahead"] for clock in desk.read("status")["clocks"]}
    assert found == {"worker a:1": 70, "scheduler b:2": -1.5}
    shown = [line for line in desk.type("status").stdout.splitlines() if line.startswith("Clock")]
    assert len(shown) == 2
    assert "scheduler b:2 is 1.5 s behind" in shown[0]
    assert "worker a:1 is 70.0 s ahead" in shown[1]


def test_status_says_nothing_of_clocks_that_are_right(desk: Desk) -> None:
    assert desk.read("status")["clocks"] == []
    assert "Clock" not in desk.type("status").stdout


@pytest.mark.parametrize(("ahead", "state", "code"), [(2, "warn", 0), (-19, "warn", 0), (70, "failed", 1)])
def test_doctor_names_the_process(desk: Desk, ahead: float, state: str, code: int) -> None:
    process = name_process("scheduler")
    for name, off in {process: ahead, "worker a:1": 0, "web b:2": 0}.items():
        report(desk, name, off)
    [found] = [each for each in desk.read("doctor", code=code)["checks"] if process in each["said"]]
    assert (found["check"], found["state"]) == ("clock", state)
    assert "NTP" in found["remedy"]
