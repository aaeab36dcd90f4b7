"""The endpoints of webhooks: how well each works, what waits for it, its last test, and its dead letters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from models.store import Transaction
from models.store.webhooks import Load
from models.webhooks.delivery import Delivery
from models.webhooks.endpoint import Endpoint
from worker.operations.dead_letters import of_webhooks
from worker.operator.views.dead_letters import DeadLetterLine, line_of, most_each
from worker.operator.views.sources import Sources

WebhookAction = Literal["resume", "retry", "test", "pause"]


@dataclass(frozen=True, slots=True)
class TrialView:
    """An endpoint's last test: when it was asked for, whether a worker has yet to send it, and why it failed."""

    asked_at: datetime
    is_under_way: bool
    error: str | None


@dataclass(frozen=True, slots=True)
class EndpointView:
    """An endpoint.

    state: "active", "failing", "paused" or "gone".
    since: when the state began; None if it is active.
    delivered_at: when a delivery succeeded last.
    error: how the last delivery failed; None if it did not.
    retry_at: when one that gives no answer is asked again.
    waiting: how many subjects have events that wait, and `waits_since` since when the oldest of those has.
    dead: how many of its events were given up.
    actions: what an operator can do now.
    """

    name: str
    url: str
    types: Sequence[str]
    state: str
    since: datetime | None
    delivered_at: datetime | None
    error: str | None
    retry_at: datetime | None
    waiting: int
    waits_since: datetime | None
    dead: int
    test: TrialView | None
    actions: Sequence[WebhookAction]


@dataclass(frozen=True, slots=True)
class WebhooksView:
    """The endpoints by name, and the newest dead letters of all of them, the newest first; `total` counts all."""

    now: datetime
    endpoints: Sequence[EndpointView]
    total: int
    letters: Sequence[DeadLetterLine]


def load_webhooks(sources: Sources) -> WebhooksView:
    """Load every endpoint, and up to 50 dead letters; what waits was counted some seconds ago."""
    loads = sources.figures.loads()
    with sources.store.reading() as tx:
        now, endpoints = tx.overview.time(), read_endpoints(tx, loads)
        letters = of_webhooks(tx, most_each)
    total = max(sum(each.dead for each in endpoints), len(letters))
    return WebhooksView(now, endpoints, total, [line_of(letter) for letter in reversed(letters)])


def read_endpoints(tx: Transaction, loads: Mapping[str, Load]) -> Sequence[EndpointView]:
    """Return the endpoints by name, with what is counted of each."""
    trials = tx.webhooks.trials()
    return [view_of(each, loads.get(each.id, Load()), trials.get(each.id)) for each in tx.webhooks.all()]


def view_of(endpoint: Endpoint, load: Load, trial: Delivery | None) -> EndpointView:
    """Return the view of an endpoint."""
    is_failing = endpoint.state == "failing"
    return EndpointView(
        name=endpoint.name,
        url=endpoint.url,
        types=endpoint.types,
        state=endpoint.state,
        since=endpoint.failing_since if is_failing else endpoint.paused_at,
        delivered_at=endpoint.delivered_at,
        error=endpoint.error,
        retry_at=endpoint.retry_at if is_failing else None,
        waiting=load.waiting,
        waits_since=load.since,
        dead=load.dead,
        test=None if trial is None else TrialView(trial.waits_since, trial.due_at is not None, trial.error),
        actions=choose_actions(endpoint),
    )


def choose_actions(endpoint: Endpoint) -> Sequence[WebhookAction]:
    """Return what an operator can do with an endpoint: to one that is paused nothing is sent, no test either."""
    return ("resume",) if endpoint.paused_at is not None else ("retry", "test", "pause")
