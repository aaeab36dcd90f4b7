"""A worker looks for unused cycles less often than Python does by itself."""

import gc
from collections.abc import Iterator

import pytest

from worker.processes.worker import most_new_objects, spare_collections


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """The generations that are collected during a test, one for each time; the thresholds are as before then."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    before = gc.get_threshold()
    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)
    gc.set_threshold(*before)


def test_objects_are_searched_for_cycles_only_once_there_are_many(collections: list[int]) -> None:
    spare_collections()
    collections.clear()
    kept = [[number] for number in range(most_new_objects // 2)]
    assert collections == []
    kept += [[number] for number in range(most_new_objects)]
    assert collections == [0]
