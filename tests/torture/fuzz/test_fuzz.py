"""The short form of `make fuzz`: a few hundred inputs at every door do nothing."""

from collections.abc import Iterator
from random import Random

import pytest

from tests.torture.fuzz.doors import Place, doors, opened
from tests.torture.fuzz.report import draw


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with opened() as made:
        yield made


@pytest.mark.parametrize("door", doors)
def test_random_input_breaks_changes_and_leaks_nothing(place: Place, door: str) -> None:
    figures = doors[door](place, Random(f"1 {door}"), 300)
    assert figures.faults == 0, draw([figures])
    assert figures.tried == 300
