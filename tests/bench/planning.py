"""What so many connections need: a pure model of their jobs, and what each costs by measurement."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta

KINDS = ("refresh", "pulse", "sync")
"""A refresh, a sync of the account alone, and a sync that reads the lists too."""
MEAN_AGE = 0.75
"""A short-lived token is refreshed after 0.7 to 0.8 of its life, see `models/oauth/refresh_policy.py`."""
LONGEST_LEAD = timedelta(days=28) * 1.25
FULL_EVERY = timedelta(minutes=60)
SLOWEST_CADENCE = 2.0
"""How often the lists of a quiet account are read, see `models/sync/cadence.py` and the profile's bounds."""
USED = 0.6
"""The share of a core that is planned for: beyond it what is due begins to wait."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one job costs.

    worker, database, redis, scheduler: milliseconds of CPU.
    commands: of Redis. wal, stored: bytes.
    """

    worker: float
    database: float
    redis: float
    scheduler: float
    commands: float
    wal: float
    stored: float

    @property
    def cpu(self) -> float:
        """Milliseconds of CPU of all parts together, without the provider's."""
        return self.worker + self.database + self.redis + self.scheduler


Costs = Mapping[str, Cost]


@dataclass(frozen=True, slots=True)
class Load:
    """Jobs a second of each kind."""

    refresh: float
    pulse: float
    sync: float

    @property
    def total(self) -> float:
        return self.refresh + self.pulse + self.sync

    def by_kind(self) -> dict[str, float]:
        return {kind: getattr(self, kind) for kind in KINDS}

    def mix(self) -> dict[str, float]:
        """Return the share of each kind."""
        return {kind: rate / self.total for kind, rate in self.by_kind().items()}


@dataclass(frozen=True, slots=True)
class Need:
    """What a load needs: cores at `USED` of each, Redis commands a second, and GB of WAL and of new rows a day."""

    load: Load
    worker_cores: float
    database_cores: float
    redis_cores: float
    scheduler_cores: float
    commands: float
    wal_per_day: float
    stored_per_day: float


def age_at_refresh(token_life: timedelta) -> timedelta:
    """Return how old a token is, on average, when it is refreshed."""
    return max(token_life * MEAN_AGE, token_life - LONGEST_LEAD)


def load_of(connections: float, token_life: timedelta, sync_interval: timedelta) -> Load:
    """Return the jobs of quiet accounts: their lists are read every other interval, and at least every hour."""
    syncs = connections / sync_interval.total_seconds()
    lists = max(sync_interval, min(sync_interval * SLOWEST_CADENCE, FULL_EVERY)) / sync_interval
    refreshes = connections / age_at_refresh(token_life).total_seconds()
    return Load(refreshes, syncs - syncs / lists, syncs / lists)


def needs(load: Load, costs: Costs) -> Need:
    """Return what the load needs by these costs."""
    total = {
        each.name: sum(rate * getattr(costs[kind], each.name) for kind, rate in load.by_kind().items())
        for each in fields(Cost)
    }
    day = 86_400 / 1e9
    return Need(
        load,
        worker_cores=total["worker"] / 1_000 / USED,
        database_cores=total["database"] / 1_000 / USED,
        redis_cores=total["redis"] / 1_000 / USED,
        scheduler_cores=total["scheduler"] / 1_000 / USED,
        commands=total["commands"],
        wal_per_day=total["wal"] * day,
        stored_per_day=total["stored"] * day,
    )


def capacity(mix: Mapping[str, float], costs: Costs, part: str) -> float:
    """Return the jobs a second of this mix that a whole core carries in that part."""
    each = sum(share * getattr(costs[kind], part) for kind, share in mix.items())
    return 1_000 / each if each else float("inf")


def read_length(text: str) -> timedelta:
    """Return the length that `15m`, `1h`, `15d` or `30s` says."""
    unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[text[-1]]
    return timedelta(**{unit: float(text[:-1])})


def length_text(length: timedelta) -> str:
    seconds = length.total_seconds()
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
