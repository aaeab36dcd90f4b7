"""`python -m scheduler`: an APScheduler process that sweeps; any number of them may run."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog
from apscheduler.events import EVENT_SCHEDULER_STARTED
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.blocking import BlockingScheduler
from prometheus_client import REGISTRY

from config.environment import SettingsError
from config.exposition import Exposition
from config.heartbeat import Heartbeat
from config.logs import configure_logging
from config.settings import read_settings
from config.stopping import exit_within
from config.wiring import now as wall_clock
from config.wiring import open_redis, open_services
from models.errors import SyncError
from scheduler.audit_chain import AuditChain
from scheduler.command_stream import Commands
from scheduler.days import DaysAhead
from scheduler.late_passes import LatePasses
from scheduler.prune import Prune
from scheduler.sweep import Sweep

pause_after_failure = 1.0
chain_interval = timedelta(seconds=5)
"""For how long, about, a line of the audit can be changed without a trace."""


def main() -> int:
    """Runs until SIGTERM or SIGINT; the pass under way is finished first."""
    configure_logging()
    try:
        settings = read_settings(needs=frozenset())
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - an operator reads this
        return 1
    services = open_services(settings, "scheduler")
    store, now = services.store, services.now
    scheduler = BlockingScheduler(executors={"default": ThreadPoolExecutor(3)}, timezone="UTC")
    sweep = Sweep(
        store,
        services.queue,
        now,
        {provider.name: provider.token_requests_per_minute for provider in settings.providers},
    )
    commands = Commands(store, open_redis(settings.redis_url, decode=False), settings.commands_stream, sweep, now)
    heartbeat = Heartbeat(settings.heartbeat_file)
    LatePasses(wall_clock).watch(scheduler)
    repeat(scheduler, sweep, settings.sweep_interval, lambda: heartbeat.beat(next_in=settings.sweep_interval))
    repeat(scheduler, Prune(store, now), timedelta(hours=1))
    repeat(scheduler, DaysAhead(store, now), timedelta(minutes=10))
    repeat(scheduler, AuditChain(store, now), chain_interval)

    stop = Stop(scheduler)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    now.watch(on_step=lambda: run_now(scheduler))
    if settings.metrics_address is not None:
        Exposition(settings.metrics_address, REGISTRY).start()
    with listening(commands):
        scheduler.start()
    services.close()
    return 0


@dataclass(slots=True, eq=False)
class Stop:
    """Ends the scheduler at a signal: once, however many come, and also if it has not started yet.

    hurry: called once, at the first signal.
    """

    scheduler: BlockingScheduler
    hurry: Callable[[], None] = exit_within
    is_asked: bool = False
    ending: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Look again as soon as the scheduler runs."""
        self.scheduler.add_listener(self._end, EVENT_SCHEDULER_STARTED)

    def __call__(self, *_: object) -> None:
        """Handle a signal.

        Race: it interrupts the thread that is about to write when a job runs next. Another thread waits until that is
        written; at once, the job would be gone.
        """
        if self.is_asked:
            return
        self.is_asked = True
        self.hurry()
        threading.Thread(target=self._end, name="stop").start()

    def _end(self, *_: object) -> None:
        with self.ending:
            # Race: a signal that comes before the scheduler runs is heeded when it does.
            if self.is_asked and self.scheduler.running:
                self.scheduler.shutdown(wait=False)


@contextmanager
def listening(commands: Commands) -> Iterator[None]:
    """Reads commands on a thread of its own, which waits on the stream; ends with the entries it has begun."""
    stopping = threading.Event()
    log = structlog.get_logger("commands")

    def listen() -> None:
        while not stopping.is_set():
            try:
                commands()
            except SyncError as error:
                log.warning("commands.failed", error=str(error))
                stopping.wait(pause_after_failure)
            except Exception:  # whatever it is, the next command must still be read
                log.exception("commands.broken")
                stopping.wait(pause_after_failure)
        commands.leave()

    thread = threading.Thread(target=listen, name="commands")
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def repeat(
    scheduler: BlockingScheduler,
    job: Callable[[], object],
    interval: timedelta,
    ended: Callable[[], None] = lambda: None,
) -> None:
    """Runs the job at the interval, one at a time; a pass that fails is logged, and the next one tries again.

    `ended` is called after every pass, also if the database or Redis was away: the process is
    healthy, and has nothing to do. It is not called while a pass hangs, nor after an unexpected error.
    """
    log = structlog.get_logger("scheduler")
    name = type(job).__name__.lower()

    def run() -> None:
        try:
            job()
        except SyncError as error:
            log.warning(f"{name}.failed", error=str(error))
        ended()

    scheduler.add_job(
        run,
        "interval",
        id=name,
        seconds=interval.total_seconds(),
        max_instances=1,
        coalesce=True,
        misfire_grace_time=None,
    )


def run_now(scheduler: BlockingScheduler) -> None:
    """Make every job due: APScheduler waits by the time of day, and would wait an hour if that was set back by one."""
    for job in scheduler.get_jobs():
        job.modify(next_run_time=datetime.now(UTC))


if __name__ == "__main__":
    sys.exit(main())
