"""The bench of large fleets, small: what it plans and models, and one run of real processes."""

import json
import subprocess
from pathlib import Path
from statistics import quantiles

import pytest

from tests.bench.fill import plan_arrivals
from tests.bench.load import Job, Used, describe_step, rate_of, summarise
from tests.bench.plan import read_costs, rows_of
from tests.bench.planning import KINDS, Cost, age_at_refresh, capacity, load_of, needs, read_length
from tests.bench.processes import python
from tests.bench.scale import measure, parse
from tests.bench.scale_report import render
from tests.bench.simulation import Machine, simulate, utilisation
from tests.processes import CHECKOUT

MIX = {"refresh": 0.25, "pulse": 0.25, "sync": 0.5}
COST = Cost(worker=10, database=5, redis=1, scheduler=0.5, commands=20, wal=4_000, stored=1_000)
COSTS = dict.fromkeys(KINDS, COST)
MACHINE = Machine(cores=2, threads=16, interval=1.0, service={"job": 0.02})


def test_arrivals_are_the_same_for_one_seed_and_no_connection_is_due_twice() -> None:
    one, again = (plan_arrivals(7, [(10, 20.0), (10, 40.0)], MIX, range(5_000)) for _ in range(2))
    assert one == again
    assert one != plan_arrivals(8, [(10, 20.0), (10, 40.0)], MIX, range(5_000))
    assert len({each.account for each in one}) == len(one)
    first = [each for each in one if each.at < 10]
    assert len(first) == pytest.approx(200, rel=0.3)
    assert len(one) - len(first) == pytest.approx(400, rel=0.3)


def test_arrivals_for_more_than_all_connections_are_refused() -> None:
    with pytest.raises(ValueError, match="more jobs are due"):
        plan_arrivals(1, [(10, 20.0)], MIX, range(10))


@pytest.mark.parametrize(
    ("life", "interval", "expected"),
    [
        pytest.param("1h", "15m", (37.04, 55.56, 55.56), id="lists every second time"),
        pytest.param("1h", "1h", (37.04, 0, 27.78), id="lists every hour"),
        pytest.param("1d", "1d", (1.54, 0, 1.16), id="never oftener than syncs"),
    ],
)
def test_a_fleet_has_so_many_jobs_a_second(life: str, interval: str, expected: tuple[float, float, float]) -> None:
    load = load_of(100_000, read_length(life), read_length(interval))
    assert (load.refresh, load.pulse, load.sync) == pytest.approx(expected, abs=0.01)


def test_a_long_life_is_refreshed_weeks_ahead() -> None:
    assert age_at_refresh(read_length("364d")) == read_length("329d")


def test_needs_grow_with_the_connections() -> None:
    one, ten = (needs(load_of(count, read_length("1h"), read_length("15m")), COSTS) for count in (100_000, 1_000_000))
    jobs = one.load.total
    assert one.worker_cores == pytest.approx(jobs * 0.010 / 0.6)
    assert one.wal_per_day == pytest.approx(jobs * 4_000 * 86_400 / 1e9)
    assert ten.database_cores == pytest.approx(10 * one.database_cores)
    assert capacity({"refresh": 1.0}, COSTS, "worker") == pytest.approx(100)


def test_a_lone_job_waits_for_the_next_pass_and_its_own_work() -> None:
    [late] = simulate(MACHINE, [(0.4, "job")])
    assert late == pytest.approx(0.62, abs=0.005)


def test_a_quiet_fleet_is_late_by_half_a_pass() -> None:
    late = simulate(MACHINE, [(number / 5.03, "job") for number in range(2_000)])
    assert quantiles(late, n=2)[0] == pytest.approx(0.55, abs=0.06)
    assert utilisation(MACHINE, {"job": 5.03}) == pytest.approx(0.05, abs=0.001)


def test_what_is_more_than_the_cores_carry_waits_ever_longer() -> None:
    late = simulate(MACHINE, [(number / 125, "job") for number in range(2_500)])
    assert late[-1] == pytest.approx(20 * 0.25 + 0.5, abs=1)


def test_lateness_counts_what_is_not_done() -> None:
    jobs = [Job("sync", 0, 100.0, 101.0), Job("sync", 1, 101.0, 103.0), Job("sync", 2, 102.0, None)]
    found = summarise(jobs, 110.0)
    assert (found["jobs"], found["undone"], found["p50"], found["max"]) == (3, 1, 2.0, 8.0)
    assert summarise([], 110.0)["p50"] is None
    assert rate_of(jobs) == 1


@pytest.mark.parametrize(
    ("workers", "machine", "expected"),
    [
        pytest.param(1.0, 1.2, [], id="nothing"),
        pytest.param(1.9, 1.99, ["workers", "the machine's 2 cores, most of them by workers"], id="all"),
        pytest.param(0.3, 1.95, ["the machine's 2 cores, most of them by other programs"], id="others"),
    ],
)
def test_a_step_names_what_was_full(workers: float, machine: float, expected: list[str]) -> None:
    cpu = {"workers": workers, "scheduler": 0, "database": 0, "redis": 0, "provider": 0, "machine": machine}
    step = describe_step([Job("pulse", 0, 0, 1)], Used(1.0, cpu, 10, 10, 10), 2.0, workers=2, cores=2)
    assert step["full"] == expected


@pytest.mark.timeout(300)
def test_a_small_fleet_does_its_jobs_and_its_report_is_written(tmp_path: Path) -> None:
    path = tmp_path / "fleet.json"
    arguments = ["--connections", "1000", "--minutes", "0.2", "--jobs", "30", "--shares", "0.2", "0.4"]
    fleet = json.loads(json.dumps(measure(parse(arguments)))) | dict.fromkeys(
        ("date", "command", "commit", "machine"), "x"
    )
    path.write_text(json.dumps(fleet))
    late = [step["late"]["all"] for step in fleet["steps"]]
    assert [each["undone"] for each in late] == [0, 0]
    assert all(each["jobs"] > 0 and 0 < each["p50"] < 10 for each in late)
    assert all(cost["worker"] > 0 and cost["wal"] > 0 for cost in fleet["costs"].values())
    document = render("<!-- fleet -->\n<!-- end -->\n<!-- plan -->\n<!-- end -->\n", {"fleet": fleet})
    assert "1,000 connections" in document
    assert len(rows_of([1e5], [read_length("1h")], [read_length("1h")], read_costs(fleet))) == 1
    assert "| 10,000,000 | 15 d | 1 d |" in document


def test_the_document_is_what_was_measured() -> None:
    checked = subprocess.run([*python("tests.bench.scale_report"), "--check"], cwd=CHECKOUT, check=False)
    assert checked.returncode == 0
