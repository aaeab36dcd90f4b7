"""A run of a connection's sync: what it reads and in which order, its position, its counts and its end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal
from urllib.parse import quote
from uuid import NAMESPACE_OID, uuid5

from models.provider import Provider, Resource

most_failures = 5
most_failures_after_one = 2
slice_length = timedelta(seconds=4)
longest_delay = timedelta(minutes=10)
run_lease = timedelta(seconds=45)
"""A job reads for `slice_length`, and its last page takes 30 seconds at most."""
on_its_way = timedelta(seconds=10)
"""How long the sweep leaves a due sync to the message that was sent for it, in case that message is lost."""

Counts = dict[str, dict[str, int]]
counted = ("created", "updated", "deleted", "unchanged")
Depth = Literal["pulse", "usual", "full"]
"""`pulse` reads the account only, `usual` looks at the newest records of long lists, or reads what changed in them, and
reads the others completely, `full` reads all lists completely."""


class RunStatus(StrEnum):
    """A run is `failed` if it had to skip a list or could not read the account, `ended` if its connection ended."""

    running = "running"
    completed = "completed"
    failed = "failed"
    ended = "ended"


@dataclass(frozen=True, slots=True)
class SyncList:
    """A list to read: a resource, or one team's part of it; `key` names it among the connection's lists.

    `since` is the value from which on the list is read incrementally; None if it is read whole. `parent` is the id of
    the record that it is the list of; a resource that is read for each of its parents is in the plan without one, and
    not read, until the run has fixed them.
    """

    resource: Resource
    path: str
    key: str
    since: str | None = None
    parent: str | None = None

    @property
    def needs_parents(self) -> bool:
        """Whether it is in the place of lists whose parents the run has not fixed."""
        return bool(self.resource.parent) and self.parent is None

    @property
    def label(self) -> str:
        """What logs and events call it: without the parent's id, which may say as much as a record."""
        return self.key if self.parent is None else self.resource.name

    @property
    def labelled_path(self) -> str:
        """Its path, likewise."""
        return self.path if self.parent is None else self.resource.path


@dataclass(frozen=True, slots=True)
class Parents:
    """The parents whose lists a run reads.

    read: the id of each, in order, and what names it in a path.
    gone: the lists whose parent is deleted: their records are too, unless they are in another list.
    """

    read: tuple[tuple[str, str], ...] = ()
    gone: tuple[str, ...] = ()


no_parents: Mapping[str, Parents] = {}


@dataclass(frozen=True, slots=True)
class SyncRun:
    """A run and its position. The stored one is as old as the last step that was written.

    id, connection_id, status, started_at, depth: what it is; see `RunStatus` and `Depth`.
    requested: whether someone asked for it; otherwise it was due.
    place: the index of the next list in the plan.
    page: the next page of that list; 0 for a look at its newest records.
    cursor: what the request for it needs to know of the page before, if its number is not enough (see `PageAsked`).
    pass_number: how often this run already read all lists of the resource.
    counts: the records that were created, updated, deleted and unchanged, by resource.
    finished_at: when it was completed or failed.
    resume_at: when it continues, if it waits.
    lease_owner, lease_until: the job that reads, and until when no other one may.
    failures: how often the current page failed in a row.
    reason, description: why the run failed or will fail, or why it ended.
    since: from which value on it reads lists incrementally, by list; chosen when it begins.
    parents: whose lists it reads, by resource; fixed when it gets to the resource, and dropped when it ends.
    """

    id: str
    connection_id: str
    status: RunStatus
    started_at: datetime
    depth: Depth = "full"
    requested: bool = False
    place: int = 0
    page: int = 1
    pass_number: int = 0
    counts: Counts = field(default_factory=dict)
    finished_at: datetime | None = None
    resume_at: datetime | None = None
    lease_owner: str | None = None
    lease_until: datetime | None = None
    failures: int = 0
    reason: str | None = None
    description: str | None = None
    cursor: str | None = None
    since: Mapping[str, str] = field(default_factory=dict)
    parents: Mapping[str, Parents] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SyncLease:
    """The lease of a run that is not stored yet, in its connection's row.

    owner, until: the job that reads, and until when no other one may.
    claimed_until: until when the sweep sends no message for the connection's sync. The job sets it to `until`.
    """

    owner: str
    until: datetime
    claimed_until: datetime | None

    def is_valid(self, now: datetime) -> bool:
        """Whether no other job may read."""
        return self._has_claim and self.until > now

    def is_held_by(self, owner: str | None) -> bool:
        """Whether this job may write what it read."""
        return self._has_claim and self.owner == owner

    @property
    def _has_claim(self) -> bool:
        """Whether the claim is still as the job set it; else the lease is over.

        Race: a worker of an earlier release, which knows no such lease, begins a run beside it, and may already have
        ended that run; or a sync is made due at once. Whoever does one of these writes the claim.
        """
        return self.claimed_until == self.until


def name_run(connection_id: str, message_id: str) -> str:
    """Return the id of the run that a message starts; if it is delivered again, the id is the same."""
    return uuid5(NAMESPACE_OID, f"{connection_id} {message_id}").hex


def plan_lists(
    provider: Provider, team_ids: Sequence[int], depth: Depth = "full", parents: Mapping[str, Parents] = no_parents
) -> tuple[SyncList, ...]:
    """Return what a run reads, in order: the account first, then a team's lists once for each team that the application
    named, and those of the parents that the run has fixed."""
    lists: list[SyncList] = []
    for resource in provider.resources:
        if resource.per_team:
            lists += [
                SyncList(resource, resource.path.replace("{team}", str(team)), f"{resource.name}:{team}")
                for team in team_ids
            ]
        else:
            lists.append(SyncList(resource, resource.path, resource.name))
    account = tuple(sync_list for sync_list in lists if sync_list.resource.path == provider.account_path)
    others = tuple(sync_list for sync_list in lists if sync_list.resource.path != provider.account_path)
    return put_parents(account if depth == "pulse" and account else account + others, parents)


def put_parents(plan: Sequence[SyncList], parents: Mapping[str, Parents]) -> tuple[SyncList, ...]:
    """Return the plan with the lists of the parents that are fixed; what comes before them stays in its place."""
    lists: list[SyncList] = []
    for each in plan:
        fixed = parents.get(each.resource.name) if each.needs_parents else None
        lists += [each] if fixed is None else [list_of(each.resource, *parent) for parent in fixed.read]
    return tuple(lists)


def list_of(resource: Resource, parent: str, key: str) -> SyncList:
    """Return the list of one parent: its id, and what names it in the path."""
    path = resource.path.replace("{parent}", "/".join(quote(part, safe="") for part in key.split("/")))
    return SyncList(resource, path, name_list(resource, parent), parent=parent)


def name_list(resource: Resource, parent: str) -> str:
    """Return what a parent's list is called among the connection's lists."""
    return f"{resource.name}:{parent}"


def places_of(lists: Sequence[SyncList], place: int) -> range:
    """Return the places of all lists of the resource at `place`: one for each team, or just this one."""
    name = lists[place].resource.name
    same = [i for i, sync_list in enumerate(lists) if sync_list.resource.name == name]
    return range(same[0], same[-1] + 1)


def add_counts(counts: Counts, resource: str, more: Mapping[str, int]) -> Counts:
    """Return the counts with those of a page or a deletion added."""
    before = counts.get(resource, dict.fromkeys(counted, 0))
    return counts | {resource: {name: before[name] + more.get(name, 0) for name in before}}


def count_seen(counts: Counts, resource: str, seen: int) -> Counts:
    """Return the counts of a resource with `seen` records, however often its pages were read."""
    own = add_counts(counts, resource, {})[resource]
    return counts | {resource: own | {"unchanged": max(seen - own["created"] - own["updated"], 0)}}


def leave_out_zeros(counts: Counts) -> Counts:
    """Return the counts as a run that is over keeps them; a resource that was read and had no record stays, empty."""
    return {resource: {name: number for name, number in own.items() if number} for resource, own in counts.items()}


def fill_in_zeros(counts: Counts) -> Counts:
    """Return the counts with all four numbers of each resource."""
    return {resource: dict.fromkeys(counted, 0) | own for resource, own in counts.items()}


def has_changes(counts: Counts) -> bool:
    """Whether the run found any change."""
    return any(own[kind] for own in counts.values() for kind in ("created", "updated", "deleted"))


def gives_up(run: SyncRun, is_lasting: bool = False) -> bool:
    """Whether to skip a list that failed so often; fewer failures are enough after the first skipped list, and if
    asking again hardly helps."""
    return run.failures >= (most_failures if run.reason is None and not is_lasting else most_failures_after_one)


def retry_delay(failures: int, retry_after: timedelta | None = None) -> timedelta:
    """Return how long a run waits after so many failures in a row: 5 s, 20 s, 80 s …, or what the provider asked for.

    Ten minutes at most, because the other lists wait with it.
    """
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
    return replace(run, resume_at=None, lease_owner=None, lease_until=None, cursor=None, parents={})
