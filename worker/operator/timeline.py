"""A story's moments as a timeline: by day, and what is routine as one line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date

from worker.operator.views.story import Moment

least_folded = 3
unchanged = "nothing changed"
of_the_envelope = frozenset({"id", "sequence", "count"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the timeline: a moment, or several that are routine, the newest first.

    id: is the only one on the page, and stays when newer moments come.
    title: of the moment, or what the moments have in common.
    """

    id: str
    title: str
    moments: Sequence[Moment]

    @property
    def newest(self) -> Moment:
        return self.moments[0]

    @property
    def is_folded(self) -> bool:
        return len(self.moments) > 1


@dataclass(frozen=True, slots=True)
class Day:
    """What happened on a day (UTC)."""

    day: date
    entries: Sequence[Entry]


def arrange(moments: Sequence[Moment]) -> Sequence[Day]:
    """Return the days of moments that come the newest first; at least three routine ones in a row are one entry."""
    days: list[Day] = []
    for entry in _fold(moments):
        day = entry.newest.at.astimezone(UTC).date()
        if days and days[-1].day == day:
            days[-1] = Day(day, [*days[-1].entries, entry])
        else:
            days.append(Day(day, [entry]))
    return days


def facts_of(moment: Moment) -> Mapping[str, object]:
    """Return what is said of a decision or an event besides its title; of another moment its detail says it."""
    if moment.kind not in ("decision", "event"):
        return {}
    return {name: value for name, value in moment.evidence.items() if name not in of_the_envelope}


def is_routine(moment: Moment) -> bool:
    """Return whether a moment is of those that fill a quiet day: requests that were answered, syncs without news."""
    if moment.is_bad:
        return False
    return moment.kind == "call" or (moment.kind == "run" and moment.detail == unchanged)


def describe(moments: Sequence[Moment]) -> str:
    """Return what moments have in common that are routine, or the same request again and again."""
    if moments[0].is_bad:
        return f"{moments[0].title}, {len(moments)} times"
    calls = sum(moment.kind == "call" for moment in moments)
    syncs = len(moments) - calls
    parts = [
        f"{syncs} {'sync' if syncs == 1 else 'syncs'} without changes" if syncs else "",
        f"{calls} {'request' if calls == 1 else 'requests'} that the provider answered" if calls else "",
    ]
    return ", ".join(part for part in parts if part)


def _fold(moments: Sequence[Moment]) -> Sequence[Entry]:
    entries: list[Entry] = []
    run: list[Moment] = []
    for moment in moments:
        if run and not _goes_with(run[0], moment):
            entries += _close(run)
            run = []
        run.append(moment)
    return [*entries, *_close(run)]


def _goes_with(first: Moment, moment: Moment) -> bool:
    if first.at.date() != moment.at.date():
        return False
    is_same = first.kind == moment.kind == "call" and (first.title, first.is_bad) == (moment.title, moment.is_bad)
    return is_same or (is_routine(first) and is_routine(moment))


def _close(run: Sequence[Moment]) -> Sequence[Entry]:
    if len(run) >= least_folded:
        return [Entry(_id_of(run[-1]), describe(run), list(run))]
    return [Entry(_id_of(moment), moment.title, [moment]) for moment in run]


def _id_of(moment: Moment) -> str:
    return f"at-{moment.kind}-{moment.at:%Y%m%d%H%M%S%f}"
