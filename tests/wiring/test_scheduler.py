"""The scheduler's process: its heartbeat, after every pass that ended as a pass may end, and its stop at signals."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from apscheduler.schedulers.blocking import BlockingScheduler

from models.errors import Transient
from scheduler.__main__ import Stop, repeat


def passes(job: Callable[[], object]) -> list[str]:
    """What was noted when the scheduler ran the job once."""
    noted: list[str] = []
    scheduler = BlockingScheduler(timezone="UTC")
    repeat(scheduler, job, timedelta(seconds=1), lambda: noted.append("ended"))
    [scheduled] = scheduler.get_jobs()
    try:
        scheduled.func()
    except ZeroDivisionError:
        noted.append("broken")
    return noted


def database_is_away() -> None:
    raise Transient("the database does not answer")


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        pytest.param(lambda: 3, ["ended"], id="it did its work"),
        pytest.param(database_is_away, ["ended"], id="the database was away"),
        pytest.param(lambda: 1 / 0, ["broken"], id="it failed as no pass should"),
    ],
)
def test_a_pass_counts_as_ended_unless_it_breaks(job: Callable[[], object], expected: list[str]) -> None:
    assert passes(job) == expected


def test_signals_that_repeat_stop_it_once() -> None:
    hurried: list[str] = []
    scheduler = BlockingScheduler(timezone="UTC")
    stop = Stop(scheduler, lambda: hurried.append("hurried"))
    scheduler.add_job(stop, "interval", seconds=0.01, max_instances=3)
    scheduler.start()
    stop()
    assert (hurried, scheduler.running) == (["hurried"], False)


def test_a_signal_that_comes_before_the_start_is_heeded() -> None:
    scheduler = BlockingScheduler(timezone="UTC")
    stop = Stop(scheduler, lambda: None)
    stop()
    scheduler.start()
    assert not scheduler.running
