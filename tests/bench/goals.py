"""What is measured, row by row, and the goal of each: a bound of its own, or one beside the rival or the floor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from types import MappingProxyType
from typing import Literal

Base = Literal["rival", "floor", ""]
SIDES = ("ours", "rival", "floor")
NAMES = MappingProxyType({"rival": "Celery", "floor": "floor"})


@dataclass(frozen=True, slots=True)
class Goal:
    """At most, or with `at_least` at least, `bound` times what `base` has; without a base the bound itself."""

    bound: float
    base: Base = ""
    at_least: bool = False

    def __str__(self) -> str:
        word = "at least" if self.at_least else "at most"
        return f"{word} {self.bound:,g}" + (f" x {NAMES[self.base]}" if self.base else "")


@dataclass(frozen=True, slots=True)
class Row:
    key: str
    title: str
    unit: str
    goals: tuple[Goal, ...] = ()


ROWS = (
    Row("refresh.cpu", "Refresh: worker", "CPU ms", (Goal(0.7, "rival"),)),
    Row("refresh.rate", "Refresh: one worker process", "a second"),
    Row("refresh.statements", "Refresh: SQL", "statements", (Goal(9),)),
    Row("refresh.commits", "Refresh: commits", "commits", (Goal(2),)),
    Row("refresh.database", "Refresh: PostgreSQL", "CPU ms", (Goal(1.5),)),
    Row("refresh.wal", "Refresh: WAL", "bytes", (Goal(4096),)),
    Row("sync.cpu", "Unchanged account, 5 requests: worker", "CPU ms", (Goal(0.5, "rival"), Goal(1.8, "floor"))),
    Row("sync.rate", "Unchanged account: one worker process", "a second"),
    Row("sync.statements", "Unchanged account: SQL", "statements", (Goal(10),)),
    Row("sync.commits", "Unchanged account: commits", "commits", (Goal(2),)),
    Row("sync.redis", "Unchanged account: Redis, beside the message", "round trips", (Goal(4),)),
    Row("sync.database", "Unchanged account: PostgreSQL", "CPU ms"),
    Row("sync.wal", "Unchanged account: WAL", "bytes", (Goal(1536),)),
    Row("pulse.cpu", "The account alone: worker", "CPU ms", (Goal(4),)),
    Row("pulse.statements", "The account alone: SQL", "statements", (Goal(5),)),
    Row("pulse.commits", "The account alone: commits", "commits", (Goal(2),)),
    Row("pulse.redis", "The account alone: Redis, beside the message", "round trips", (Goal(2),)),
    Row("pulse.wal", "The account alone: WAL", "bytes", (Goal(614),)),
    Row("large.cpu", "Unchanged account of 100 documents: worker", "CPU ms", (Goal(0.5, "rival"),)),
    Row("first.rate", "First sync", "documents per CPU second", (Goal(3, "rival", at_least=True),)),
    Row("callback.cpu", "Callback: web process", "CPU ms", (Goal(2, "floor"),)),
    Row("callback.p99", "Callback: p99", "ms", (Goal(3, "floor"),)),
    Row("detection.p99", "401 to the event on the stream: p99", "ms", (Goal(150),)),
    Row("enqueue.cpu", "Enqueue 1,000 due jobs", "CPU ms", (Goal(50),)),
    Row("idle.worker", "Idle worker", "% of a core", (Goal(0.5),)),
    Row("idle.scheduler", "Idle scheduler", "% of a core", (Goal(0.5),)),
    Row("idle.redis", "Idle fleet: Redis", "round trips a second"),
    Row("publish.rate", "Publish", "events per CPU second", (Goal(15_000, at_least=True),)),
    Row("claim.growth", "Claim of 1,000 due syncs: among many rows, beside few", "times as long", (Goal(1.3),)),
    Row(
        "claim.refresh_growth",
        "Claim of 1,000 due refreshes: among many rows, beside few",
        "times as long",
        (Goal(1.3),),
    ),
)

Samples = Mapping[str, Mapping[str, Sequence[float]]]
"""By the key of a row and by side, what each round measured."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A median, and the lowest and highest of the rounds."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal of one row; `share` is how much of what the goal allows is used: up to 1 it is met."""

    goal: Goal
    share: float

    @property
    def is_met(self) -> bool:
        return self.share <= 1


@dataclass(frozen=True, slots=True)
class Result:
    row: Row
    figures: Mapping[str, Figure]
    verdicts: tuple[Verdict, ...]

    def ratio(self, base: str) -> float | None:
        """Return ours as a multiple of the side's; None without a figure of either."""
        if base not in self.figures or "ours" not in self.figures or not self.figures[base].median:
            return None
        return self.figures["ours"].median / self.figures[base].median


def judge(samples: Samples) -> list[Result]:
    """Return the rows that were measured, in their order."""
    return [_judge_row(row, samples[row.key]) for row in ROWS if samples.get(row.key, {}).get("ours")]


def _judge_row(row: Row, of_sides: Mapping[str, Sequence[float]]) -> Result:
    figures = {
        side: Figure(median(values), min(values), max(values)) for side in SIDES if (values := of_sides.get(side))
    }
    verdicts = (_judge_goal(goal, figures) for goal in row.goals)
    return Result(row, figures, tuple(verdict for verdict in verdicts if verdict is not None))


def _judge_goal(goal: Goal, figures: Mapping[str, Figure]) -> Verdict | None:
    """None if there is nothing to compare with."""
    if goal.base and goal.base not in figures:
        return None
    allowed = goal.bound * (figures[goal.base].median if goal.base else 1)
    ours = figures["ours"].median
    used, of = (allowed, ours) if goal.at_least else (ours, allowed)
    return Verdict(goal, used / of if of > 0 else float("inf"))
