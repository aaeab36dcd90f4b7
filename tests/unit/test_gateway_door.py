"""Which requests without a known key get a line in the audit."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from worker.gateway.door import RefusedKeys, most_sources

begin = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
floods: dict[str, tuple[Sequence[tuple[str, int]], list[int | None]]] = {
    "one source has one line a minute": ([("a", 0), ("a", 1), ("a", 59), ("a", 60)], [0, None, None, 2]),
    "a clock set back begins another minute": ([("a", 0), ("a", -3600), ("a", -3599)], [0, 0, None]),
    "each source has its own": ([("a", 0), ("b", 1), ("a", 2), ("b", 61), ("a", 62)], [0, 0, None, 1, 0]),
    "of many sources ten have one, then the 20th": (
        [(str(number), 0) for number in range(21)],
        [*[0] * 10, *[None] * 9, 9, None],
    ),
}


@pytest.mark.parametrize("case", floods)
def test_a_flood_gets_a_few_lines_that_say_how_many_are_missing(case: str) -> None:
    arrivals, lines = floods[case]
    refused = RefusedKeys()
    assert [refused.count(source, begin + timedelta(seconds=at)) for source, at in arrivals] == lines


def test_so_many_sources_are_remembered_and_no_more() -> None:
    refused = RefusedKeys()
    for number in range(most_sources + 10):
        refused.count(str(number), begin)
    assert (len(refused.sources), refused.count("another", begin)) == (most_sources, None)
