"""A scheduler whose passes take longer than their interval says so once, and not every second."""

import threading
from datetime import UTC, datetime, timedelta

from apscheduler.events import EVENT_JOB_MAX_INSTANCES, JobSubmissionEvent
from apscheduler.schedulers.background import BackgroundScheduler
from structlog.testing import capture_logs

from scheduler.__main__ import repeat
from scheduler.late_passes import LatePasses, said_every


def skip(late: LatePasses, job: str = "sweep") -> None:
    late.note(JobSubmissionEvent(EVENT_JOB_MAX_INSTANCES, job, "default", []))


def test_many_skipped_starts_are_one_line_that_counts_them() -> None:
    now = datetime(2026, 11, 28, tzinfo=UTC)
    late = LatePasses(lambda: now)
    with capture_logs() as logs:
        for _ in range(100):
            skip(late)
        now += said_every
        skip(late)
        skip(late, "prune")
    assert [(line["event"], line["skipped"]) for line in logs] == [
        ("sweep.late", 1),
        ("sweep.late", 100),
        ("prune.late", 1),
    ]


def test_a_real_scheduler_reports_a_pass_that_does_not_end() -> None:
    release, skipped = threading.Event(), threading.Event()

    class Slow:
        def __call__(self) -> None:
            release.wait(30)

    scheduler = BackgroundScheduler(timezone="UTC")
    late = LatePasses(lambda: datetime.now(UTC))
    late.watch(scheduler)
    scheduler.add_listener(lambda _: skipped.set(), EVENT_JOB_MAX_INSTANCES)
    repeat(scheduler, Slow(), timedelta(milliseconds=20))
    with capture_logs() as logs:
        scheduler.start()
        assert skipped.wait(30)
        release.set()
        scheduler.shutdown()
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == ["slow.late"]
