"""Follow a sync until it ends, with a progress bar for each resource."""

import time
from collections.abc import Mapping

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from config.wiring import now
from models.oauth.connection import Connection, Status
from models.store import Store
from models.sync.sync_run import RunStatus, SyncRun
from worker.cli.output import print_warning, screen
from worker.operations.story import describe_state
from worker.operations.texts import format_future


def follow_run(store: Store, target: Connection, before: SyncRun | None, quiet: bool) -> SyncRun | Connection:
    """Follow the requested run until it ends, or until the connection ends before a run began.

    Ctrl-C stops following; the sync itself goes on.
    """
    look = TextColumn("{task.description:<18}"), BarColumn(30), TextColumn("{task.fields[counted]}")
    bars = Progress(*look, console=screen(), disable=quiet)
    title = bars.add_task(target.user_id, total=None, counted="waiting for a worker")
    tasks: dict[str, TaskID] = {}
    try:
        with bars:
            while True:
                with store.reading() as tx:
                    run, current = tx.runs.newest(target.id), tx.connections.get(target.id)
                    totals = {} if run is None else tx.runs.totals_of(run.id)
                if run is not None and (run.status is RunStatus.running or before is None or run.id != before.id):
                    before = None
                    ended = run.status is not RunStatus.running
                    bars.update(title, total=1 if ended else None, completed=1, counted=_describe_run(run))
                    _draw(bars, tasks, run, totals)
                    if ended and not (current is not None and current.sync_requested):
                        return run
                elif current is None or current.status is not Status.active:
                    return current or target
                time.sleep(0.1)
    except KeyboardInterrupt:
        print_warning(f"The sync goes on. Follow it with breezesync explain {target.id}")
        raise typer.Exit(0) from None


def describe_failure(ended: SyncRun | Connection) -> str | None:
    """Return why the sync read nothing, or not everything; None if it completed."""
    if isinstance(ended, Connection):
        return f"{ended.id} is {describe_state(ended)}; nothing was synced"
    if ended.status is RunStatus.completed:
        return None
    return f"{ended.connection_id}: {ended.status}, {ended.description or ended.reason}"


def _draw(bars: Progress, tasks: dict[str, TaskID], run: SyncRun, totals: Mapping[str, int]) -> None:
    """Draw one bar per resource, with the lists of all teams in one; `totals` are the sizes that the provider gave."""
    for name, counts in run.counts.items():
        if name not in tasks:
            tasks[name] = bars.add_task(f"  {name}", counted="")
        read = sum(count for kind, count in counts.items() if kind != "deleted")
        expected = sum(total for source, total in totals.items() if source.split(":")[0] == name)
        total = max(read, expected, 1) if run.status is RunStatus.running else max(read, 1)
        bars.update(tasks[name], total=total, completed=read or (total if run.status is not RunStatus.running else 0))
        bars.update(tasks[name], counted=_format_counts(counts))


def _format_counts(counts: Mapping[str, int]) -> str:
    words = {"created": "new", "updated": "changed", "deleted": "deleted", "unchanged": "unchanged"}
    return ", ".join(f"{counts[kind]} {word}" for kind, word in words.items() if counts.get(kind)) or "none"


def _describe_run(run: SyncRun) -> str:
    if run.status is not RunStatus.running:
        return run.status
    moment = now()
    if run.resume_at is not None and run.resume_at > moment:
        return f"waiting, continues {format_future(run.resume_at, moment)}"
    return f"reading page {run.page}"
