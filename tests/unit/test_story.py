"""Where a reading stands, told to a person."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from models.sync.sync_run import RunStatus, SyncRun
from worker.cli.explain import tell_run

run = SyncRun("r", "c", RunStatus.running, datetime(2026, 11, 24, 12, tzinfo=UTC))
keys = ["account", "document", "team_document:4"]
stands: dict[str, tuple[SyncRun, str]] = {
    "at the start": (run, "account (list 1 of 3), page 1"),
    "in the middle": (replace(run, place=1, page=7), "document (list 2 of 3 of 120 records), page 7"),
    "at a look": (replace(run, place=1, page=0), "document (list 2 of 3 of 120 records), a look at what is newest"),
    "reading again": (
        replace(run, place=2, page=2, reading=1),
        "team_document:4 (list 3 of 3), page 2, for the 2. time",
    ),
    "at the end": (replace(run, place=3), "all lists are read"),
}


@pytest.mark.parametrize("case", stands)
def test_a_run_tells_where_it_stands(case: str) -> None:
    stand, expected = stands[case]
    assert tell_run(stand, keys, {"document": 120}) == expected
