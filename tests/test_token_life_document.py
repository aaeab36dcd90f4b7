"""docs/token-life.md names the test that shows each claim: every one of them is there."""

import re
from pathlib import Path

root = Path(__file__).parents[1]


def test_every_test_that_the_document_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (root / "docs" / "token-life.md").read_text()))
    there = {
        name for file in (root / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    assert len(named) > 20
    assert named - there == set()
