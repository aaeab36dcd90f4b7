"""No statement of the scheduler reads a table from end to end, however many connections there are."""

import json

import pytest

from tests.bench.plans import filled_store, read_plan, run_everything, scans_of, slowest_by_query

COUNTED = {"overview.connections_by_status"}
"""What counts every connection has to read every connection."""


def test_the_scheduler_scans_no_table() -> None:
    with filled_store(30_000) as (store, recorder):
        run_everything(store, recorder)
    plans = slowest_by_query(recorder.plans)
    assert {plan.what for plan in plans} >= {"a pass with nothing due", "void_claims", "prune, a day later"}
    assert {plan.what: plan.scans for plan in plans if plan.scans and plan.what not in COUNTED} == {}


SCAN = {"Node Type": "Seq Scan", "Relation Name": "a", "Actual Loops": 1}
WALK = {"Node Type": "Index Scan", "Index Name": "i", "Actual Rows": 20_000, "Actual Loops": 1}


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        pytest.param(SCAN | {"Actual Rows": 5}, [], id="few"),
        pytest.param(SCAN | {"Actual Rows": 0, "Rows Removed by Filter": 90_000}, ["a (90,000 rows)"], id="dropped"),
        pytest.param({"Node Type": "Limit", "Plans": [WALK]}, ["i (20,000 entries)"], id="an index, below"),
    ],
)
def test_a_plan_names_what_it_reads_from_end_to_end(node: dict[str, object], expected: list[str]) -> None:
    assert list(scans_of(node)) == expected


def test_a_notice_of_a_plan_is_read_and_another_is_not() -> None:
    plan = {"Query Text": "SELECT\n 1", "Plan": {"Node Type": "Result", "Shared Hit Blocks": 2}}
    found = read_plan("sweep", f"duration: 1.5 ms  plan:\n{json.dumps(plan)}")
    assert found is not None
    assert (found.ms, found.pages, found.query, read_plan("sweep", "hello")) == (1.5, 2, "SELECT 1", None)
