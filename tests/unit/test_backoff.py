"""Delays that grow with the failures in a row, and then stay."""

from datetime import timedelta

import pytest

from models.backoff import Backoff


@pytest.mark.parametrize(("failures", "seconds"), [(0, 5), (1, 5), (2, 30), (3, 120), (4, 120), (1000, 120)])
def test_a_delay_grows_and_then_stays(failures: int, seconds: int) -> None:
    assert Backoff.of_seconds(5, 30, 120).after(failures) == timedelta(seconds=seconds)
