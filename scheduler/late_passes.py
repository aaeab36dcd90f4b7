"""A pass that takes longer than its interval, said once in a while and not at every start that it skips."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from apscheduler.events import EVENT_JOB_MAX_INSTANCES, JobSubmissionEvent
from apscheduler.schedulers.base import BaseScheduler

said_every = timedelta(minutes=5)


@dataclass(slots=True, eq=False)
class LatePasses:
    """Counts the starts that were skipped because the pass before was still running, for each job by its id."""

    now: Callable[[], datetime]
    skipped: dict[str, int] = field(default_factory=dict)
    said_at: dict[str, datetime] = field(default_factory=dict)

    def watch(self, scheduler: BaseScheduler) -> None:
        """Have the scheduler's own line at each skipped start replaced by ours."""
        logging.getLogger("apscheduler.scheduler").setLevel(logging.ERROR)
        scheduler.add_listener(self.note, EVENT_JOB_MAX_INSTANCES)

    def note(self, event: JobSubmissionEvent) -> None:
        """Count one, and log how many there were if that was not said lately."""
        job, now = str(event.job_id), self.now()
        self.skipped[job] = self.skipped.get(job, 0) + 1
        said_at = self.said_at.get(job)
        if said_at is None or now - said_at >= said_every:
            structlog.get_logger("scheduler").warning(f"{job}.late", skipped=self.skipped.pop(job))
            self.said_at[job] = now
