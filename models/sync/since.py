"""Lists that are read incrementally between full readings: only what changed since a value of one of its fields.

The value that a reading begins at must not pass a change that no reading has seen. A record whose page was already read
may change while the other pages are read, so the newest value of the whole reading is too new. But that change came
after the first page, and after everything that was seen in the reading before. So the next reading begins at the newest
value of these two. It begins a little earlier (`since_overlap`), because several records may have the same value, and
the provider may show a change later than it dates it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import quote

from models.journal import ListProblem
from models.provider import Provider, Resource
from models.sync.absence import PageSeen, is_whole
from models.sync.sync_run import SyncList, places_of

furthest_ahead = timedelta(days=1)
"""A time further ahead than this is no time of a change; a time without a zone may be half a day ahead."""
longest_number = 18
_time = re.compile(r"(\d{4}-\d\d-\d\d)([T ])(\d\d:\d\d:\d\d)((?:\.\d{1,9})?)(Z|[+-]\d\d:?\d\d|)", re.ASCII)
_unreachable = (ListProblem.plan_required, ListProblem.not_found)
_epoch = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Marks:
    """How far a list was read: where the next incremental reading begins, and the newest value that was seen.

    Both are as the provider writes them. `since` is None if the list has to be read whole.
    """

    since: str | None = None
    newest: str | None = None


@dataclass(frozen=True, slots=True)
class _Value:
    """A value that can be compared with others of its kind; `order` of a time is in nanoseconds since 1970."""

    kind: Literal["number", "time", "time without a zone"]
    order: int
    text: str


def newest_of(values: Iterable[object]) -> str | None:
    """Return the newest value as text; None if there is none, or if they are not all whole numbers or all ISO times."""
    read = [_read(value) for value in values]
    known = [value for value in read if value is not None]
    if not known or len(known) < len(read) or len({value.kind for value in known}) > 1:
        return None
    return max(known, key=lambda value: value.order).text


def step_back(text: str, overlap: int) -> str:
    """Return a value that much earlier, written in the same way: a time by so many seconds, a number by as much."""
    found = _time.fullmatch(text)
    if found is None:
        return str(max(int(text) - overlap, 0))
    day, between, clock, fraction, zone = found.groups()
    try:
        at = datetime.fromisoformat(f"{day}T{clock}") - timedelta(seconds=overlap)
    except OverflowError:
        return text
    return at.isoformat(between) + fraction + zone


def choose_since(
    plan: Sequence[SyncList],
    stored: Mapping[str, tuple[Marks, str | None]],
    living: Mapping[str, int],
    provider: Provider,
    started_at: datetime,
) -> dict[str, str]:
    """Return from which value on a run reads each list that it reads incrementally, by list.

    `stored` are each list's marks and problem, `living` how many of its records are not deleted. All lists of a
    resource are read in one way, except those that could not be reached: a record may move from one list to another. A
    list whose last reading proved no deletion is read whole.
    """
    chosen: dict[str, str] = {}
    for resource in provider.resources:
        keys = [each.key for each in plan if each.resource.name == resource.name]
        states = {key: stored.get(key, (Marks(), None)) for key in keys}
        reachable = {key: marks for key, (marks, problem) in states.items() if problem not in _unreachable}
        known = {key: marks.since for key, marks in reachable.items() if marks.since is not None}
        usable = len(known) == len(reachable) and not any(states[key][1] for key in reachable)
        is_long = sum(living.get(key, 0) for key in keys) > provider.peek_above
        if (
            resource.since_parameter
            and usable
            and is_long
            and not any(_is_ahead(at, started_at) for at in known.values())
        ):
            chosen |= {key: step_back(at, resource.since_overlap) for key, at in known.items()}
    return chosen


def begin_at(plan: Sequence[SyncList], since: Mapping[str, str]) -> tuple[SyncList, ...]:
    """Return the plan of a run with the values from which on it reads lists incrementally."""
    return tuple(
        replace(each, since=since[each.key]) if each.key in since and each.resource.since_parameter else each
        for each in plan
    )


def is_incremental(plan: Sequence[SyncList], place: int, since: Mapping[str, str]) -> bool:
    """Whether a run reads any list of the resource at `place` incrementally: then none of its records is deleted."""
    return bool(since) and any(plan[other].key in since for other in places_of(plan, place))


def asked_resource(sync_list: SyncList, page: int) -> Resource:
    """Return the resource with the query that goes with the request for a page; 0 is a look at the newest records."""
    resource = sync_list.resource
    if page == 0:
        return replace(resource, query=resource.peek)
    if sync_list.since is None:
        return resource
    own = f"{quote(resource.since_parameter, safe='')}={quote(sync_list.since, safe='')}"
    return replace(resource, query=f"{resource.query}&{own}" if resource.query else own)


def marks_after(before: Marks, pages: Sequence[PageSeen], is_full: bool) -> Marks:
    """Return a list's marks after all of `pages`; they stay as they are if the list was not read without a gap.

    A full reading sees every value, so what was stored before does not outlive its record.
    """
    if not is_whole(pages) or any(page.nameless for page in pages):
        return before
    if any(page.ids and page.newest is None for page in pages):
        return Marks()
    seen = [page.newest for page in sorted(pages, key=lambda page: page.page) if page.newest is not None]
    earlier = [] if before.newest is None else [before.newest]
    newest = newest_of(seen if is_full else [*earlier, *seen])
    if newest is None:
        return Marks()
    first = [page.newest for page in pages if page.page == 1 and page.newest is not None]
    since = newest_of([*earlier, *first])
    return Marks(None if since is None else _older(since, newest), newest)


def _older(one: str, other: str) -> str | None:
    """Return the older of two values; None if they can't be compared."""
    read = [value for value in map(_read, (one, other)) if value is not None]
    comparable = len(read) == 2 and read[0].kind == read[1].kind
    return min(read, key=lambda value: value.order).text if comparable else None


def _read(value: object) -> _Value | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.isascii():
        return None
    if value.isdigit() and len(value) <= longest_number:
        return _Value("number", int(value), value)
    found = _time.fullmatch(value)
    if found is None:
        return None
    day, _, clock, fraction, zone = found.groups()
    try:
        at = datetime.fromisoformat(f"{day}T{clock}{zone or 'Z'}")
    except ValueError:
        return None
    whole = (at - _epoch) // timedelta(seconds=1)
    order = whole * 10**9 + int(fraction[1:].ljust(9, "0") or 0)
    return _Value("time" if zone else "time without a zone", order, value)


def _is_ahead(text: str, at: datetime) -> bool:
    """Whether a time is so far ahead that it hides changes; a number is never taken for one."""
    value = _read(text)
    limit = (at + furthest_ahead - _epoch) // timedelta(seconds=1) * 10**9
    return value is not None and value.kind != "number" and value.order > limit
