"""Fork a fleet's processes: the shipped programs, without the second that each takes to import.

Read one order a line from standard input and answer with a process id; stop every process when that input ends.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import dramatiq.cli
import uvicorn
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.blocking import BlockingScheduler

import tests.torture.chaos.boot  # noqa: F401 - imported once, for every forked worker
import worker.processes.web  # noqa: F401 - the same for the web process
from config.logs import configure_logging
from config.settings import read_settings
from config.wiring import open_services
from scheduler.__main__ import repeat
from scheduler.sweep import Sweep
from worker.cli import keys

claim_length = timedelta(seconds=3)
most_waiting = 50


def run_worker(threads: int) -> int:
    arguments = ["tests.torture.chaos.boot:boot", "--processes", "1", "--threads", str(threads)]
    parsed = dramatiq.cli.make_argument_parser().parse_args(arguments)  # type: ignore[no-untyped-call]
    return int(dramatiq.cli.main(parsed))  # type: ignore[no-untyped-call]


def run_scheduler() -> int:
    """Run the shipped sweep; what it claimed and no worker did is sent again after seconds instead of minutes."""
    configure_logging()
    settings = read_settings(needs=frozenset())
    services = open_services(settings, "worker")
    sweeper = BlockingScheduler(executors={"default": ThreadPoolExecutor(2)}, timezone="UTC")
    rates = {provider.name: provider.token_requests_per_minute for provider in settings.providers}
    sweep = Sweep(services.store, services.queue, services.now, rates, claim_length, most_waiting)
    repeat(sweeper, sweep, settings.sweep_interval)
    signal.signal(signal.SIGTERM, lambda *_: sweeper.shutdown(wait=False))
    sweeper.start()
    return 0


def run_web(port: int) -> int:
    uvicorn.run("worker.main:web", factory=True, port=port, log_level="warning")
    return 0


def rotate_keys() -> int:
    keys.rotate(batch=20, as_json=True)
    return 0


programs: dict[str, Callable[..., int]] = {
    "worker": run_worker,
    "scheduler": run_scheduler,
    "web": run_web,
    "rotate": rotate_keys,
}


def fork_program(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor, target in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
        os.dup2(descriptor, target)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.update(order.get("environment", {}))
    code = 1
    try:
        code = programs[order["program"]](**order.get("options", {}))
    finally:
        sys.stdout.flush()
        os._exit(code)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    born: list[int] = []
    for line in iter(sys.stdin.readline, ""):
        born.append(fork_program(json.loads(line)))
        print(born[-1], flush=True)  # noqa: T201 - the answer
    for pid in born:
        if is_ours(pid):
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def is_ours(pid: int) -> bool:
    """Whether this process still has that child: the id may belong to another process by now."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return int(status.rpartition(")")[2].split()[1]) == os.getpid()


if __name__ == "__main__":
    main()
