"""Find what was removed, changed or inserted in the chain."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date

from models.audit.chain import Day, End, Line, hash_of
from models.journal import Word

most_faults = 100


class Problem(Word):
    """What is wrong at a place of the chain."""

    removed = "removed", "is missing"
    inserted = "inserted", "was inserted: another line has its place"
    changed = "changed", "was changed: its hash is another one"
    broken = "broken", "does not follow the line before it: one was changed, or lines between them were removed"
    added = "added", "was added after its day had been closed"
    replaced = "replaced", "is not the line that its day was closed with"
    unclosed = "unclosed", "is the last of its day, whose closing record is missing"
    head_missing = "head_missing", "is the newest, and the chain does not contain the given head"


@dataclass(frozen=True, slots=True)
class Fault:
    """A place in the chain, and what is wrong there; `last` is the last number if it concerns several lines."""

    day: date | None
    number: int
    problem: Problem
    last: int

    @property
    def text(self) -> str:
        """What an operator reads."""
        if self.day is None:
            return "there is no line, and so not the given head"
        if self.last > self.number:
            return f"{self.day}, lines {self.number} to {self.last}: {self.problem.sentence}"
        return f"{self.day}, line {self.number}: {self.problem.sentence}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many lines and days were checked, where the chain ends, and what is wrong with it."""

    lines: int
    days: int
    end: End
    faults: tuple[Fault, ...]


def verify(lines: Iterable[Line], days: Sequence[Day], start: date | None = None, head: str | None = None) -> Verdict:
    """Check chained lines, in their order, from the day `start` on, against the closed days.

    `days` are all closed days, also those before `start` whose lines were pruned. `head` is a hash that was noted
    outside the database, and must be in the chain. Whoever can rewrite every line and every closed day is found only
    by such a head.
    """
    before = [day for day in days if start is not None and day.day < start]
    base = End(before[-1].day, before[-1].count, before[-1].head) if before else End()
    walk = _Walk({day.day: day for day in days[len(before) :]}, base, head, head in {None, *(d.head for d in before)})
    for line in lines:
        walk.take(line)
    walk.finish()
    return Verdict(walk.lines, walk.days, walk.end, tuple(walk.faults))


@dataclass(slots=True)
class _Walk:
    """How far the check has come: `closed` are the closed days that it has not reached, `end` its last line."""

    closed: dict[date, Day]
    end: End
    head: str | None
    has_head: bool
    lines: int = 0
    days: int = 0
    faults: list[Fault] = field(default_factory=list)
    is_within: bool = False
    """Whether `end` is a line that was checked, and not the end of an earlier day."""

    def take(self, line: Line) -> None:
        """Check one line."""
        if line.day is None or line.number is None:
            return
        self.lines += 1
        if not self.is_within or line.day != self.end.day:
            self._end_day()
            self._skip_days(line.day)
            self.days, self.is_within = self.days + 1, True
            self.end = End(line.day, 0, self.end.hash)
        expected = self.end.number + 1
        if line.number < expected:
            self._note(line.day, line.number, Problem.inserted)
            return
        if line.number > expected:
            self._note(line.day, expected, Problem.removed, line.number - 1)
        elif line.previous != self.end.hash:
            self._note(line.day, line.number, Problem.broken)
        if hash_of(line) != line.hash:
            self._note(line.day, line.number, Problem.changed)
        self.has_head = self.has_head or line.hash == self.head
        self.end = End(line.day, line.number, line.hash or "")

    def finish(self) -> None:
        """Check what is left when there are no more lines."""
        if self.is_within and self.end.day in self.closed:
            self._end_day()
        self._skip_days(None)
        if not self.has_head:
            self._note(self.end.day, self.end.number, Problem.head_missing)

    def _end_day(self) -> None:
        """Compare a day whose lines have ended with its closing record."""
        day, number = self.end.day, self.end.number
        if not self.is_within or day is None:
            return
        record = self.closed.pop(day, None)
        if record is None:
            self._note(day, number, Problem.unclosed)
        elif record.count > number:
            self._note(day, number + 1, Problem.removed, record.count)
        elif record.count < number:
            self._note(day, record.count + 1, Problem.added, number)
        elif record.head != self.end.hash:
            self._note(day, number, Problem.replaced)
        if record is not None:
            self.end = End(day, record.count, record.head)

    def _skip_days(self, until: date | None) -> None:
        """Note the closed days before `until` that have no line left."""
        for day in sorted(day for day in self.closed if until is None or day < until):
            record = self.closed.pop(day)
            self._note(day, 1, Problem.removed, record.count)
            self.has_head = self.has_head or record.head == self.head
            self.end, self.is_within = End(day, record.count, record.head), False

    def _note(self, day: date | None, number: int, problem: Problem, last: int = 0) -> None:
        if len(self.faults) < most_faults:
            self.faults.append(Fault(day, number, problem, max(last, number)))
