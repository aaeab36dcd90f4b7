"""The metrics of several worker processes that were started together, as one.

Dramatiq starts any number of processes, and there is one METRICS_ADDRESS: each process writes its values into a file of
a directory that the processes of one `dramatiq` share (prometheus-client's multiprocess mode), and one of them listens
and shows the sums. A process that ends leaves its counts; a start of the whole begins at zero.
"""

import os
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from typing import Any

from prometheus_client import CollectorRegistry, values
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from worker.metrics.counters import Metrics

variable = "PROMETHEUS_MULTIPROC_DIR"
file_bytes = 1 << 18
"""What a process's file of one kind has at first; a hundred bytes or so are a number's."""
kinds = ("counter", "histogram", "gauge_livemax")


class DirectoryUnusable(Exception):
    """The shared directory can't be made; the text says why."""


class GroupCollector:
    """Sums what the processes of a directory have written. What only a living process has goes when it has ended."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def collect(self) -> Iterable[Metric]:
        for file in self.directory.glob("gauge_live*_*.db"):
            process = file.stem.rpartition("_")[2]
            if process.isdigit() and not is_running(int(process)):
                mark_process_dead(int(process), str(self.directory))  # type: ignore[no-untyped-call]
        collector: Any = MultiProcessCollector(None, str(self.directory))  # type: ignore[no-untyped-call]
        found: Iterable[Metric] = collector.collect()
        return found

    def describe(self) -> list[Metric]:
        return []


def share_metrics() -> tuple[Metrics, CollectorRegistry, Path]:
    """Return what this process counts with, what shows the sums of its group, and their directory.

    Raises `DirectoryUnusable`; then a process counts for itself alone.
    """
    try:
        directory = _make_directory(os.getppid())
        _reserve_files(directory)
        _keep_values_in(directory)
        metrics = Metrics()
    except OSError as error:
        _keep_values_in(None)
        raise DirectoryUnusable(f"{error.filename or 'no temporary directory'}: {error.strerror or error}") from None
    registry = CollectorRegistry()
    registry.register(GroupCollector(directory))
    return metrics, registry, directory


def _keep_values_in(directory: Path | None) -> None:
    """Have prometheus-client write what is made from now on into files there, or keep it in memory."""
    if directory is None:
        os.environ.pop(variable, None)
    else:
        os.environ[variable] = str(directory)
    values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]


def _reserve_files(directory: Path) -> None:
    """Take the space of this process's files from the disk at once: on a full one, a process that writes to a page of
    a mapped file for the first time is killed, whatever it does at the moment. Raises OSError."""
    for kind in kinds:
        descriptor = os.open(directory / f"{kind}_{os.getpid()}.db", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, file_bytes)
        finally:
            os.close(descriptor)


def is_running(process: int) -> bool:
    """Return whether there is a process of that number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _make_directory(parent: int) -> Path:
    """Return the directory of the processes that this parent has started, and remove those of parents that are gone."""
    mine = f"breezesync-metrics-{os.getuid()}-"
    root = Path(tempfile.gettempdir())
    for left in root.glob(f"{mine}*"):
        number, _, started = left.name.removeprefix(mine).partition("-")
        if number.isdigit() and not (is_running(int(number)) and _started(int(number)) in (started, "0")):
            rmtree(left, ignore_errors=True)
    directory = root / f"{mine}{parent}-{_started(parent)}"
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    found = directory.lstat()
    # Race: someone else made it, in a directory that all may write.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise DirectoryUnusable(f"{directory} is not ours alone")
    return directory


def _started(process: int) -> str:
    """Return when the process was started, so that one that got its number later is another; 0 if that is not known."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "0"
