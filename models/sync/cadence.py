"""When a connection is synced next, and how much of it: an account that changes often is synced more often."""

from dataclasses import replace
from datetime import datetime, timedelta

from models.oauth.connection import Connection
from models.provider import Provider
from models.sync.sync_run import Depth, RunStatus, SyncRun, has_changes

rest_after_full = 8
"""After a full sync there is none for this many times its own length: full syncs take at most a ninth of the time."""
longest_rest = timedelta(hours=24)
"""The length of a sync includes its waits, so after an outage the pause would be days long without this limit."""


def choose_depth(connection: Connection, asked: bool, now: datetime) -> Depth:
    """Return how much a run that starts now reads; a run that an application requested reads everything."""
    if asked or connection.full_due_at is None or connection.full_due_at <= now:
        return "full"
    if connection.lists_due_at is None or connection.lists_due_at <= now or connection.access_limited:
        return "usual"
    return "pulse"


def plan_next(
    connection: Connection, run: SyncRun, provider: Provider, interval: timedelta, position: float, now: datetime
) -> Connection:
    """Return the connection with its due times after a run; `position`, from 0 to 1, spreads them by a tenth.

    At least the account is read every interval, so that a revoked grant is detected. How often the lists are read
    follows the account: a run with changes halves the time between two syncs of them, one without adds a quarter,
    within the profile's bounds. The first run does not count. A full sync that failed is due again after as long as it
    took, so that a list that cannot be read takes at most half of the time. A sync that was requested during the run is
    due at once.
    """
    spread = 0.95 + 0.1 * position
    planned = connection
    if run.depth != "pulse":
        lived = connection.last_synced_at is not None
        pace = connection.sync_pace * ((0.5 if has_changes(run.counts) else 1.25) if lived else 1)
        pace = min(max(pace, provider.fastest_cadence), provider.slowest_cadence)
        planned = replace(planned, sync_pace=pace, lists_due_at=now + interval * pace * spread)
    if run.depth == "full":
        planned = replace(planned, full_due_at=now + _rest(run, provider, now))
    if connection.sync_requested:
        return replace(planned, sync_due_at=now)
    due = [now + interval * spread, *([planned.lists_due_at] if planned.lists_due_at else [])]
    return replace(planned, sync_due_at=max(min(due), now))


def _rest(run: SyncRun, provider: Provider, now: datetime) -> timedelta:
    """Return how long after a full sync the next one is due."""
    took, usual = now - run.started_at, timedelta(minutes=provider.full_reading_minutes)
    if run.status is not RunStatus.completed:
        return min(took, usual)
    return min(max(usual, took * rest_after_full), longest_rest)
