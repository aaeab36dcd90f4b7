"""Batches of jobs, side by side and round by round: what one job costs each side."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from time import sleep

from tests.bench.accounts import FIRST_SYNC_DOCUMENTS, LARGE, NEW, SMALL
from tests.bench.meters import Reading
from tests.bench.processes import MeasurementFailed
from tests.bench.sides import Side, requests_of
from tests.bench.world import World

SETTLING = 0.15
"""Seconds for what a process does right after its last job."""


@dataclass
class Bench:
    """Measures batches on these servers; `samples` are by row and side, `idle` by side."""

    world: World
    sides: Sequence[Side]
    samples: dict[str, dict[str, list[float]]]
    idle: dict[str, Reading]

    def note(self, row: str, side: str, value: float) -> None:
        self.samples.setdefault(row, {}).setdefault(side, []).append(value)

    def warm_up(self) -> None:
        """Read every account once, so that all is stored and every thread has its connections."""
        for kind, accounts in (("sync", SMALL), ("large", LARGE), ("refresh", SMALL)):
            for side in self.sides:
                if kind in side.jobs:
                    self.run(side, kind, accounts)

    def measure_idle(self, seconds: float) -> None:
        before = {side.name: self.read(side) for side in self.sides}
        sleep(seconds)
        self.idle = {side.name: self.read(side) - before[side.name] for side in self.sides}

    def measure_round(self, number: int) -> None:
        """Run each kind on each side, the sides in another order each round."""
        turn = number % len(self.sides)
        sides = [*self.sides[turn:], *self.sides[:turn]]
        for kind, accounts in batches_of(number).items():
            for side in sides:
                if kind in side.jobs:
                    cost = self.run(side, kind, accounts)
                    self._note_batch(kind, side, accounts, cost.net_of(self.idle[side.name]))

    def run(self, side: Side, kind: str, accounts: Sequence[int]) -> Reading:
        """Run a batch, and return what it cost in all."""
        side.prepare(kind, accounts)
        side.send(kind, accounts)
        asked, before = self.world.provider.count_requests(), self.read(side)
        side.work()
        done = self.read(side)
        sleep(SETTLING)
        cost = self.read(side) - before
        side.check(kind, accounts)
        if self.world.provider.counts()["stale"]:
            raise MeasurementFailed(f"{side.name} presented a refresh token twice")
        requests = self.world.provider.count_requests() - asked
        if requests != requests_of(kind) * len(accounts):
            raise MeasurementFailed(f"{len(accounts)} {kind} jobs of {side.name} made {requests} requests")
        return Reading(done.wall - before.wall, *list(values_of(cost))[1:])

    def read(self, side: Side) -> Reading:
        return self.world.meters.read(side.database, side.pids())

    def _note_batch(self, kind: str, side: Side, accounts: Sequence[int], cost: Reading) -> None:
        jobs = len(accounts)
        if kind == "first":
            self.note("first.rate", side.name, FIRST_SYNC_DOCUMENTS * jobs / cost.cpu)
            return
        each = cost.per(jobs)
        self.note(f"{kind}.cpu", side.name, each.cpu * 1_000)
        self.note(f"{kind}.database", side.name, each.database * 1_000)
        self.note(f"{kind}.statements", side.name, each.statements)
        self.note(f"{kind}.commits", side.name, each.commits)
        self.note(f"{kind}.wal", side.name, each.wal)
        self.note(f"{kind}.trips", side.name, each.round_trips)
        self.note(f"{kind}.rate", side.name, jobs / cost.wall)

    def note_redis(self) -> None:
        """Note what a job asks of Redis beside the message that brought it."""
        message = median(self.samples["message.trips"]["ours"])
        for kind in ("sync", "pulse"):
            for trips in self.samples[f"{kind}.trips"]["ours"]:
                self.note(f"{kind}.redis", "ours", trips - message)


def values_of(reading: Reading) -> Sequence[float]:
    return [getattr(reading, name) for name in Reading.__slots__]


def batches_of(number: int) -> dict[str, Sequence[int]]:
    """Return the accounts of each kind of job in this round."""
    return {
        "refresh": SMALL,
        "sync": SMALL[:40],
        "pulse": SMALL,
        "message": SMALL,
        "large": LARGE,
        "first": NEW[2 * number : 2 * number + 1],
    }
