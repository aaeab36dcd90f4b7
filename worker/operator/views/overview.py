"""The overview: the whole fleet at a glance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from models.journal import Problem
from models.oauth.connection import Status
from models.store import Transaction
from models.store.webhooks import Load
from worker.operator.views.attention import Attention, Situation, find_attention
from worker.operator.views.figures import Activity, CountedConnections, days
from worker.operator.views.groups import StreamView, read_streams
from worker.operator.views.providers import ClientView, ProviderView, read_providers
from worker.operator.views.queues import ProcessView, QueueDepth, read_depths, read_processes
from worker.operator.views.sources import Sources
from worker.operator.views.webhooks import EndpointView, read_endpoints

most_counted = 100_000
most_calls = 10_000
lately = timedelta(days=1)
streams = ("events", "records")


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
class BudgetUse:
    """How much of a provider's limits is used.

    token_requests: token requests of the last minute, by the whole fleet.
    token_requests_allowed: how many the profile allows in a minute; None for no limit.
    paused_until: until when a 429 of the token endpoint stops them; None if none does.
    api_requests_allowed: how many the profile allows for one account in a minute; None if it is not configured.
    accounts_throttled: how many connections wait because their account's requests are used up.
    """

    provider: str
    token_requests: int
    token_requests_allowed: int | None
    paused_until: datetime | None
    api_requests_allowed: int | None
    accounts_throttled: int


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
    calls: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class Overview:
    """The fleet at `now`.

    now: the database's time.
    version: of the process that shows this.
    is_empty: whether there is no connection yet.
    first_steps: what to do next if it is empty, a sentence each; else none.
    attention: what is wrong, the worst first; nothing if all is well.
    connections: counted by provider, status and problem, at `counted_at`; `total` is their sum.
    active, revoked, disconnected: of `total`.
    refreshes_due: a value for each of the next 28 days.
    activity: 36 values, the oldest first; the last is of the ten minutes that run.
    queues, groups: None if Redis does not answer.
    calls_unknown: how many calls of the last day ended without an answer, among the newest 10,000.
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
    groups: Sequence[StreamView] | None
    backlogs: Sequence[Backlog]
    clients: Sequence[ClientView]
    processes: Sequence[ProcessView]
    endpoints: Sequence[EndpointView]
    calls_unknown: int


@dataclass(frozen=True, slots=True)
class _Now:
    """What one transaction read."""

    now: datetime
    due: Due
    waiting: int
    backlogs: Sequence[Backlog]
    providers: Sequence[ProviderView]
    processes: Sequence[ProcessView]
    endpoints: Sequence[EndpointView]
    calls_unknown: int


def load_overview(sources: Sources) -> Overview:
    """Load the overview; what is counted over the whole database is some seconds old."""
    counted, activity = sources.figures.connections(), sources.figures.activity()
    refreshes, loads = sources.figures.refreshes(), sources.figures.loads()
    with sources.store.reading() as tx:
        found = _read(sources, tx, loads)
    queues, groups = read_depths(sources), read_streams(sources)
    by_status = {status: sum(n for _, own, _, n in counted.by_state if own == status) for status in Status}
    clients = [client for provider in found.providers for client in provider.clients]
    situation = Situation(
        now=found.now,
        redis_trouble=sources.redis_trouble(),
        queues=queues,
        streams=groups,
        clients=clients,
        processes=found.processes,
        overdue=timedelta(seconds=found.due.oldest_seconds),
        lag=timedelta(seconds=max(each.lag_seconds for each in found.backlogs)),
        active=by_status[Status.active],
        problems=list(_count_problems(counted).items()),
        endpoints=found.endpoints,
        calls_unknown=found.calls_unknown,
    )
    total = sum(by_status.values())
    return Overview(
        now=found.now,
        version=sources.version,
        is_empty=total == 0,
        first_steps=[] if total else find_first_steps(sources),
        attention=find_attention(situation),
        total=total,
        active=by_status[Status.active],
        revoked=by_status[Status.revoked],
        disconnected=by_status[Status.disconnected],
        connections=[ConnectionCount(p, status, problem or None, n) for p, status, problem, n in counted.by_state],
        counted_at=counted.counted_at,
        due=found.due,
        authorizations_waiting=found.waiting,
        refreshes_due=spread_over_days(refreshes.by_day, found.now.date()),
        activity=activity,
        budgets=[_budget_of(provider, counted) for provider in found.providers],
        queues=queues,
        groups=groups,
        backlogs=found.backlogs,
        clients=clients,
        processes=found.processes,
        endpoints=found.endpoints,
        calls_unknown=found.calls_unknown,
    )


def _read(sources: Sources, tx: Transaction, loads: Mapping[str, Load]) -> _Now:
    now = tx.overview.time()
    due, oldest = tx.overview.due(now, most_counted), tx.overview.oldest_due(now)
    unpublished = tx.figures.backlogs(most_counted)
    backlogs = [Backlog(name, number, _age(since, now)) for name, (number, since) in unpublished.items()]
    empty = [Backlog(name, 0, 0.0) for name in streams if name not in unpublished]
    return _Now(
        now=now,
        due=Due(due["refreshes"], due["syncs"], due["exchanges"], due["calls"], _age(oldest, now)),
        waiting=tx.overview.authorizations_waiting(),
        backlogs=sorted([*backlogs, *empty], key=lambda each: each.stream),
        providers=read_providers(sources, tx, now),
        processes=read_processes(tx, now),
        endpoints=read_endpoints(tx, loads),
        calls_unknown=tx.calls.count_unknown(now - lately, most_calls),
    )


def spread_over_days(by_day: Mapping[date, int], today: date) -> Sequence[DueOnDay]:
    """Return a value for each of the next 28 days; what is overdue counts today."""
    counts = {today + timedelta(days=number): 0 for number in range(days)}
    for day, number in by_day.items():
        counted_on = max(day, today)
        if counted_on in counts:
            counts[counted_on] += number
    return [DueOnDay(day, number) for day, number in counts.items()]


def find_first_steps(sources: Sources) -> Sequence[str]:
    """Return what to do as long as there is no connection."""
    providers = sorted(name for name, ids in sources.client_ids.items() if ids)
    if not providers:
        name = next(iter(sorted(sources.providers)), "breezedoc")
        return [
            f"Register an OAuth client at {name}, and set {name.upper()}_CLIENT_ID and {name.upper()}_CLIENT_SECRET."
        ]
    return [
        f"Make a link for a user: breezesync connect-link USER --provider {providers[0]}",
        "Open it in a browser, and allow access. The connection appears here, and its first sync begins by itself.",
        "If it does not, look at the authorizations: each says why it failed.",
    ]


def _count_problems(counted: CountedConnections) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for _, status, problem, number in counted.by_state:
        if status == Status.active and problem:
            found[problem] = found.get(problem, 0) + number
    return found


def _budget_of(provider: ProviderView, counted: CountedConnections) -> BudgetUse:
    throttled = sum(n for name, _, why, n in counted.by_state if (name, why) == (provider.name, Problem.throttled))
    return BudgetUse(
        provider=provider.name,
        token_requests=provider.token_requests,
        token_requests_allowed=provider.token_requests_allowed,
        paused_until=provider.paused_until,
        api_requests_allowed=provider.api_requests_allowed,
        accounts_throttled=throttled,
    )


def _age(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else round(max((now - since).total_seconds(), 0), 3)
