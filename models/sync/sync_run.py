"""One run over a connection: what it reads in which order, how far it came, what it counted, how it ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal
from uuid import NAMESPACE_OID, uuid5

from models.provider import Provider, Resource

most_failures = 5
most_failures_after_one = 2
slice_length = timedelta(seconds=4)
longest_delay = timedelta(minutes=10)
run_lease = timedelta(seconds=45)
"""One page takes 30 seconds at most, and each of them renews it."""
on_its_way = timedelta(seconds=10)
"""How long the sweep leaves a due sync to the message that was sent for it; one that was lost comes back then."""

Counts = dict[str, dict[str, int]]
Depth = Literal["pulse", "usual", "full"]
"""`pulse` asks for the account alone, `usual` peeks at long lists and reads the others, `full` reads all of all."""


class RunStatus(StrEnum):
    """How a run ended: `failed` had to leave a list or could not read the account, `ended` lost its connection."""

    running = "running"
    completed = "completed"
    failed = "failed"
    ended = "ended"


@dataclass(frozen=True, slots=True)
class SyncList:
    """One list to read: a resource, for one team where it is a team's; `key` names it among a connection's lists."""

    resource: Resource
    path: str
    key: str


@dataclass(frozen=True, slots=True)
class SyncRun:
    """`place` is the index into the plan, `page` the next page there (0: a look at what is newest), `reading` how often
    the resource was read before in this run. All of them only move in a page's own transaction.
    """

    id: str
    connection_id: str
    status: RunStatus
    started_at: datetime
    depth: Depth = "full"
    place: int = 0
    page: int = 1
    reading: int = 0
    counts: Counts = field(default_factory=dict)
    finished_at: datetime | None = None
    resume_at: datetime | None = None
    lease_owner: str | None = None
    lease_until: datetime | None = None
    failures: int = 0
    reason: str | None = None
    description: str | None = None


def name_run(connection_id: str, message_id: str) -> str:
    """The id of the run that a message begins for a connection: however often it is delivered, it begins this one."""
    return uuid5(NAMESPACE_OID, f"{connection_id} {message_id}").hex


def plan_lists(provider: Provider, team_ids: Sequence[int], depth: Depth = "full") -> tuple[SyncList, ...]:
    """What a run reads, in order; a team's lists once for each team that the application named."""
    lists: list[SyncList] = []
    for resource in provider.resources:
        if resource.per_team:
            lists += [
                SyncList(resource, resource.path.replace("{team}", str(team)), f"{resource.name}:{team}")
                for team in team_ids
            ]
        else:
            lists.append(SyncList(resource, resource.path, resource.name))
    account = tuple(sync_list for sync_list in lists if sync_list.path == provider.account_path)
    return account if depth == "pulse" and account else tuple(lists)


def places_of(lists: Sequence[SyncList], place: int) -> range:
    """The places of all lists of the resource at `place`: its teams', or just this one."""
    name = lists[place].resource.name
    same = [i for i, sync_list in enumerate(lists) if sync_list.resource.name == name]
    return range(same[0], same[-1] + 1)


def add_counts(counts: Counts, resource: str, more: Mapping[str, int]) -> Counts:
    """The counts with a page's or a deletion's added."""
    before = counts.get(resource, dict.fromkeys(("created", "updated", "deleted", "unchanged"), 0))
    return counts | {resource: {name: before[name] + more.get(name, 0) for name in before}}


def count_seen(counts: Counts, resource: str, seen: int) -> Counts:
    """The counts of a resource of which `seen` records were seen in the end, however often pages were read again."""
    own = add_counts(counts, resource, {})[resource]
    return counts | {resource: own | {"unchanged": max(seen - own["created"] - own["updated"], 0)}}


def has_changes(counts: Counts) -> bool:
    return any(own[kind] for own in counts.values() for kind in ("created", "updated", "deleted"))


def gives_up(run: SyncRun) -> bool:
    """Whether a list that has failed so often is left; once one was, the next ones get less patience."""
    return run.failures >= (most_failures if run.reason is None else most_failures_after_one)


def retry_delay(failures: int, retry_after: timedelta | None = None) -> timedelta:
    """How long a run waits after its `failures`th failure in a row: 5 s, 20 s, 80 s …, or as long as it was told to,
    and ten minutes at most: one list's trouble keeps no other from being read."""
    return min(retry_after or timedelta(seconds=5 * 4 ** (min(max(failures, 1), 9) - 1)), longest_delay)


def finish(run: SyncRun, now: datetime) -> SyncRun:
    """Return the run as completed; nothing leases or resumes it any more."""
    return replace(_release(run), status=RunStatus.completed, finished_at=now)


def fail(run: SyncRun, reason: str, description: str, now: datetime) -> SyncRun:
    """Return the run as failed, with the problem's code and its description."""
    return replace(finish(run, now), status=RunStatus.failed, reason=reason, description=description)


def end(run: SyncRun, reason: str) -> SyncRun:
    """Return the run of a connection that ended; what it committed is kept, and it never finished."""
    return replace(_release(run), status=RunStatus.ended, reason=reason)


def _release(run: SyncRun) -> SyncRun:
    return replace(run, resume_at=None, lease_owner=None, lease_until=None)
