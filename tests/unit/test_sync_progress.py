"""Which page a running sync reads next, as an operator sees it."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from models.sync.sync_run import RunStatus, SyncRun
from worker.operations.story import describe_progress

run = SyncRun("r", "c", RunStatus.running, datetime(2026, 11, 24, 12, tzinfo=UTC))
keys = ["account", "document", "team_document:4"]
cases: dict[str, tuple[SyncRun, tuple[str, ...]]] = {
    "at the start": (run, ("account", "list 1 of 3", "page 1")),
    "in the middle": (replace(run, place=1, page=7), ("document", "list 2 of 3 of 120 records", "page 7")),
    "at a look": (replace(run, place=1, page=0), ("document", "list 2 of 3 of 120 records", "newest")),
    "in the second pass": (
        replace(run, place=2, page=2, pass_number=1),
        ("team_document:4", "list 3 of 3", "page 2", "pass 2"),
    ),
    "at the end": (replace(run, place=3), ("all lists",)),
}


@pytest.mark.parametrize("case", cases)
def test_progress_names_the_list_and_the_page(case: str) -> None:
    running, expected = cases[case]
    progress = describe_progress(running, keys, {"document": 120})
    assert [part for part in expected if part not in progress] == []
    assert ("pass" in progress) == ("pass 2" in expected)
