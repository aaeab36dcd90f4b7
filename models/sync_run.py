"""One reading of a connection: what it reads in which order, how far it came, when it proves that records are gone."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from models.provider import Provider, Resource

most_rereads = 2
most_failures = 5
slice_length = timedelta(seconds=4)
run_lease = timedelta(seconds=90)
on_its_way = timedelta(seconds=10)
"""How long the sweep leaves a due sync to the message that was sent for it; one that was lost comes back then."""

Counts = dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Reading:
    """One list to read: a resource, for one team where it is a team's."""

    resource: Resource
    path: str


@dataclass(frozen=True, slots=True)
class SyncRun:
    """`place` is the index into the plan, `page` the next page there; both only move in the page's own transaction."""

    id: str
    connection_id: str
    status: str
    started_at: datetime
    place: int = 0
    page: int = 1
    rereads: int = 0
    counts: Counts = field(default_factory=dict)
    finished_at: datetime | None = None
    resume_at: datetime | None = None
    lease_owner: str | None = None
    lease_until: datetime | None = None
    failures: int = 0
    reason: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class PageSeen:
    """What one page of this run held: its ids, and what the provider said of the whole list on it."""

    page: int
    total: int
    last_page: int
    ids: tuple[str, ...]


def plan_readings(provider: Provider, team_ids: Sequence[int]) -> tuple[Reading, ...]:
    """What a run reads, in order; a team's lists once for each team that the application named."""
    readings: list[Reading] = []
    for resource in provider.resources:
        if resource.per_team:
            readings += [Reading(resource, resource.path.replace("{team}", str(team))) for team in team_ids]
        else:
            readings.append(Reading(resource, resource.path))
    return tuple(readings)


def is_whole(pages: Sequence[PageSeen]) -> bool:
    """Whether the pages are one list read without a gap: every page, one total throughout, as many ids as it says."""
    if not pages:
        return False
    numbers = sorted(page.page for page in pages)
    totals = {page.total for page in pages}
    ids = [external_id for page in pages for external_id in page.ids]
    complete = numbers == list(range(1, pages[0].last_page + 1))
    return complete and totals == {len(ids)} and len(set(ids)) == len(ids)


def find_gone(living: Collection[str], pages: Sequence[PageSeen]) -> list[str]:
    """The ids that the database holds and a whole reading did not see."""
    seen = {external_id for page in pages for external_id in page.ids}
    return sorted(set(living) - seen)


def add_counts(counts: Counts, resource: str, more: Mapping[str, int]) -> Counts:
    """The counts with a page's or a deletion's added."""
    before = counts.get(resource, dict.fromkeys(("created", "updated", "deleted", "unchanged"), 0))
    return counts | {resource: {name: before[name] + more.get(name, 0) for name in before}}


def retry_delay(failures: int) -> timedelta:
    """How long a run waits after its `failures`th failure in a row: 5 s, 20 s, 80 s …"""
    return timedelta(seconds=min(5 * 4 ** (max(failures, 1) - 1), 600))


def finish(run: SyncRun, now: datetime) -> SyncRun:
    return replace(run, status="completed", finished_at=now, resume_at=None, lease_owner=None, lease_until=None)


def fail(run: SyncRun, reason: str, description: str, now: datetime) -> SyncRun:
    return replace(finish(run, now), status="failed", reason=reason, description=description)
