"""When a connection is read next, and how much of it: what changes is read more often, what is quiet less."""

from dataclasses import replace
from datetime import datetime, timedelta

from models.oauth.connection import Connection
from models.provider import Provider
from models.sync.sync_run import Depth, RunStatus, SyncRun, has_changes

rest_after_full = 8
"""A full reading is followed by so many times its own length without one: at most a ninth of the time goes to them."""
longest_rest = timedelta(hours=24)
"""A reading's length counts its waits too: an outage is not paid for with days without one."""


def choose_depth(connection: Connection, asked: bool, now: datetime) -> Depth:
    """How much a run that begins now reads. What an application asks for is read whole."""
    if asked or connection.full_due_at is None or connection.full_due_at <= now:
        return "full"
    if connection.lists_due_at is None or connection.lists_due_at <= now or connection.access_limited:
        return "usual"
    return "pulse"


def plan_next(
    connection: Connection, run: SyncRun, provider: Provider, interval: timedelta, position: float, now: datetime
) -> Connection:
    """The connection with the next due times after a run; `position`, from 0 to 1, spreads them by a tenth.

    Every interval asks for the account at least, so that a dead grant shows. The lists follow the account's life: a run
    with changes halves the time between two readings, one without adds a quarter, within the profile's bounds. The
    first run says nothing about that life. A full reading that failed is tried again after as long as it took, so that
    a list that can't be read has no more than half of the time. One more that was asked for meanwhile is due at once.
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
    """How long after a full reading the next one is due."""
    took, usual = now - run.started_at, timedelta(minutes=provider.full_reading_minutes)
    if run.status is not RunStatus.completed:
        return min(took, usual)
    return min(max(usual, took * rest_after_full), longest_rest)
