"""The overview: the whole fleet at a glance."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from models.queue import Depth
from worker.operator.views.providers import ClientView
from worker.operator.views.sources import Sources

Severity = Literal["failed", "warn"]


@dataclass(frozen=True, slots=True)
class ConnectionCount:
    """How many connections have this state; `problem` is None for none."""

    provider: str
    status: str
    problem: str | None
    number: int


@dataclass(frozen=True, slots=True)
class DueOnDay:
    """How many refreshes are due on a day (UTC); the first day has those that are overdue, too."""

    day: date
    refreshes: int


@dataclass(frozen=True, slots=True)
class Activity:
    """What happened within ten minutes.

    at: when they began.
    syncs_completed, syncs_failed: how many syncs ended so.
    requests: how many API requests were made.
    errors: how many of them got no response, or one of 400 or more.
    is_estimate: whether there were too many to count each: then all four are extrapolated from a part.
    """

    at: datetime
    syncs_completed: int
    syncs_failed: int
    requests: int
    errors: int
    is_estimate: bool = False


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """How much of a provider's limits is used.

    token_requests: token requests of the last minute, by the whole fleet.
    token_requests_allowed: how many the profile allows in a minute; None for no limit.
    paused_until: until when a 429 of the token endpoint stops them; None if none does.
    api_requests_allowed: how many the profile allows for one account in a minute.
    accounts_throttled: how many connections wait because their account's requests are used up.
    """

    provider: str
    token_requests: int
    token_requests_allowed: int | None
    paused_until: datetime | None
    api_requests_allowed: int
    accounts_throttled: int


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """A queue: messages that no worker has taken, those in work or delayed, and those that failed for good."""

    name: str
    waiting: int
    under_way: int
    dead: int

    @classmethod
    def of(cls, name: str, depth: Depth) -> "QueueDepth":
        return cls(name, depth.waiting, depth.under_way, depth.dead)


@dataclass(frozen=True, slots=True)
class Backlog:
    """A stream's events that are not published yet; `lag_seconds` is how long the oldest of them has waited.

    `unpublished` is counted up to 100,000 over all streams.
    """

    stream: str
    unpublished: int
    lag_seconds: float


@dataclass(frozen=True, slots=True)
class Due:
    """How much work is due now, each counted up to 100,000; `oldest_seconds` is how long the oldest has been."""

    refreshes: int
    syncs: int
    exchanges: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class ProcessView:
    """A process as it reported last: alive if that was within two minutes."""

    name: str
    role: str
    version: str
    reported_at: datetime
    ahead_seconds: float
    is_alive: bool


@dataclass(frozen=True, slots=True)
class Attention:
    """Something that is wrong: a sentence, what to do about it, and the page that shows more.

    code: what kind of trouble, for a test or a style: "dead_letters", "held", "client_rejected", "no_worker" …
    said: one sentence, without a full stop.
    remedy: the next step, with the command to type.
    path: a page below /operator that shows it, such as "dead-letters"; None if there is none.
    """

    code: str
    severity: Severity
    said: str
    remedy: str
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Overview:
    """The fleet at `now`.

    now: the database's time.
    version: of the process that shows this.
    is_empty: whether there is no connection yet.
    first_steps: what to do next if it is empty, a sentence each; else none.
    attention: what is wrong, the worst first; nothing if all is well.
    connections: counted by provider, status and problem, as `counted_at` says; `total` is their sum.
    active, revoked, disconnected: of `total`.
    refreshes_due: a value for each of the next 28 days.
    activity: 36 values, the oldest first; the last is of the ten minutes that run.
    queues: None if Redis does not answer.
    """

    now: datetime
    version: str
    is_empty: bool
    first_steps: Sequence[str]
    attention: Sequence[Attention]
    total: int
    active: int
    revoked: int
    disconnected: int
    connections: Sequence[ConnectionCount]
    counted_at: datetime
    due: Due
    authorizations_waiting: int
    refreshes_due: Sequence[DueOnDay]
    activity: Sequence[Activity]
    budgets: Sequence[BudgetUse]
    queues: Sequence[QueueDepth] | None
    backlogs: Sequence[Backlog]
    clients: Sequence[ClientView]
    processes: Sequence[ProcessView]


def load_overview(sources: Sources) -> Overview:
    """Load the overview; what is counted over the whole database is some seconds old."""
    raise NotImplementedError
