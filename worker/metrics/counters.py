"""One object that counts and measures for a process; whatever is to be counted is given it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import wraps
from time import monotonic
from typing import Any, Concatenate, ParamSpec

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from models.messaging.events import Stream
from models.oauth.connection import Connection
from models.oauth.refresh_decision import RefreshDecision
from models.oauth.token_response import (
    ClientRefused,
    GrantRefused,
    NotNow,
    RequestRefused,
    ScopeRefused,
    TokenOutcome,
    TokensGranted,
)
from models.sync.decision import StepDecision
from models.sync.records import RecordChanges
from models.sync.sync_run import RunStatus, SyncRun
from worker.metrics import catalog
from worker.metrics.catalog import Family

P = ParamSpec("P")
Exemplar = Callable[[], Mapping[str, str] | None]
window_seconds = 30.0
"""A budget's use is shown for one to two of these."""


class BudgetUse:
    """The largest use of a budget that was noted lately."""

    def __init__(self) -> None:
        self.newest = self.before = 0.0
        self.turned_at = 0.0

    def note(self, ratio: float, at: float) -> float:
        """Note a use, and return the largest one of this window and the last one; times are of one steady clock."""
        windows = int((at - self.turned_at) // window_seconds)
        if windows > 0:
            self.before, self.newest = (self.newest if windows == 1 else 0.0), 0.0
            self.turned_at = at
        self.newest = max(self.newest, ratio)
        return max(self.newest, self.before)


def harmless(
    count: "Callable[Concatenate[Metrics, P], None]",
) -> "Callable[Concatenate[Metrics, P], None]":
    """Let nothing that goes wrong while counting reach the flow: it may hold tokens that are not saved yet."""

    @wraps(count)
    def counted(self: "Metrics", /, *given: P.args, **named: P.kwargs) -> None:
        try:
            count(self, *given, **named)
        except Exception as error:
            if not self.is_broken:
                self.is_broken = True
                structlog.get_logger("metrics").warning("metrics.broken", error=type(error).__name__)

    return counted


class Metrics:
    """Counts and measures; every method takes a few microseconds and raises nothing.

    A label's value is one of few: a name of ours or of a profile, or an HTTP status; never a user's or a token.
    `exemplar` returns labels that lead from a measurement to the trace it was made in; prometheus-client keeps them in
    memory only, and so none of what a group of processes writes into files.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        families: Sequence[Family] = catalog.in_worker,
        exemplar: Exemplar = lambda: None,
    ) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self._families: dict[str, Any] = {each.name: _make(each, self.registry) for each in families}
        self._children: dict[tuple[str, ...], Any] = {}
        self._budgets: dict[str, BudgetUse] = {}
        self._exemplar = exemplar
        self.is_broken = False

    @harmless
    def count_token_request(self, provider: str, grant: str, outcome: TokenOutcome | None) -> None:
        """Count a request that was sent; `outcome` is None if no one reads its answer."""
        self._child(catalog.token_requests, provider, grant, name_outcome(outcome)).inc()

    @harmless
    def note_api_answer(self, provider: str, resource: str, status: int, seconds: float) -> None:
        """Count a request to the API; status 0 if no answer came."""
        self._child(catalog.api_requests, provider, resource, name_status(status)).inc()
        self._child(catalog.api_seconds).observe(seconds, self._exemplar())

    @harmless
    def note_budget(self, provider: str, limit: int, remaining: int | None) -> None:
        """Note what the provider says is left of an account's requests a minute."""
        if remaining is not None:
            self._show_budget(provider, min(max(1 - remaining / limit, 0.0), 1.0))

    @harmless
    def fade(self) -> None:
        """Forget uses of budgets that are too long ago; called every few seconds."""
        for provider in list(self._budgets):
            self._show_budget(provider, 0.0)

    @harmless
    def note_refresh(self, connection: Connection, issued_at: datetime | None, decision: RefreshDecision) -> None:
        """Note a refresh that was saved, or a grant that is dead; `issued_at` is when its last tokens were."""
        if decision.granted is not None and connection.refresh_due_at is not None:
            late = (decision.at - connection.refresh_due_at).total_seconds()
            self._child(catalog.refresh_lateness).observe(max(late, 0.0))
        if decision.runs_end is not None and decision.connection is not None and decision.runs_end != "rotation_lost":
            self._note_end(connection, issued_at, decision.at)

    @harmless
    def note_step(self, run: SyncRun, issued_at: datetime | None, decision: StepDecision) -> None:
        """Note what a committed step of a run changed, and the run's end."""
        provider, deletion = decision.subject.provider, decision.deletion
        if decision.changes is not None:
            self.count_changes(provider, (decision.changes,))
        if deletion is not None:
            self._count_records(provider, deletion.resource, "deleted", len(deletion.ids))
        if decision.ended is not None and decision.connection is not None:
            self._note_end(decision.subject, issued_at, decision.at)
            self._count_run(provider, run, RunStatus.ended, decision.at)
        elif decision.run is not None and decision.run.status is not RunStatus.running:
            self._count_run(provider, run, decision.run.status, decision.at)

    @harmless
    def count_changes(self, provider: str, written: Iterable[RecordChanges]) -> None:
        """Count the records of pages that were committed."""
        for changes in written:
            self._count_records(provider, changes.resource, "created", len(changes.new))
            self._count_records(provider, changes.resource, "updated", len(changes.changed))

    @harmless
    def count_published(self, streams: Iterable[Stream]) -> None:
        """Count events that were added to their streams."""
        for stream in streams:
            self._child(catalog.events_published, stream).inc()

    @harmless
    def note_message(self, actor: str, outcome: str, seconds: float | None = None) -> None:
        """Count a message; `seconds` is how long its actor took, None if it did not run."""
        self._child(catalog.messages_done, actor, outcome).inc()
        if seconds is not None:
            self._child(catalog.message_seconds, actor).observe(seconds, self._exemplar())

    @harmless
    def count_call(self, provider: str, outcome: str) -> None:
        """Count a call as a job that has ended."""
        self._child(catalog.calls_ended, provider, outcome).inc()

    @harmless
    def count_webhook(self, endpoint: str, outcome: str) -> None:
        """Count an attempt to send an event to an endpoint, or an event that was given up."""
        self._child(catalog.webhook_deliveries, endpoint, outcome).inc()

    @harmless
    def note_gateway(self, operation: str, outcome: str, seconds: float) -> None:
        """Count a request to the gateway, and how long it took."""
        self._child(catalog.gateway_requests, operation, outcome).inc()
        self._child(catalog.gateway_seconds, operation).observe(seconds, self._exemplar())

    @harmless
    def count_refused_key(self, reason: str) -> None:
        """Count a request to the gateway that had no known key."""
        self._child(catalog.gateway_refused_keys, reason).inc()

    def _note_end(self, connection: Connection, issued_at: datetime | None, at: datetime) -> None:
        alive_at = max((each for each in (connection.last_synced_at, issued_at) if each is not None), default=None)
        if alive_at is not None:
            self._child(catalog.revocation_seconds).observe(max((at - alive_at).total_seconds(), 0.0))

    def _count_run(self, provider: str, run: SyncRun, status: RunStatus, at: datetime) -> None:
        self._child(catalog.sync_runs, provider, run.depth, status.value).inc()
        self._child(catalog.sync_seconds).observe(max((at - run.started_at).total_seconds(), 0.0))

    def _count_records(self, provider: str, resource: str, change: str, number: int) -> None:
        if number:
            self._child(catalog.records_changed, provider, resource, change).inc(number)

    def _show_budget(self, provider: str, ratio: float) -> None:
        use = self._budgets.get(provider)
        if use is None:
            use = self._budgets[provider] = BudgetUse()
        self._child(catalog.budget_used, provider).set(use.note(ratio, monotonic()))

    def _child(self, family: Family, *values: str) -> Any:
        """Return the metric with these label values, made once."""
        key = (family.name, *values)
        child = self._children.get(key)
        if child is None:
            made = self._families[family.name]
            child = self._children[key] = made.labels(*values) if values else made
        return child


def name_outcome(outcome: TokenOutcome | None) -> str:
    """Return the label of a token request's outcome."""
    match outcome:
        case None:
            return "unread"
        case TokensGranted():
            return "granted"
        case GrantRefused():
            return "refused"
        case ClientRefused():
            return "client_rejected"
        case ScopeRefused():
            return "scope_refused"
        case RequestRefused():
            return "malformed"
        case NotNow(throttled=throttled):
            return "throttled" if throttled else "unavailable"
        case _:
            return "unknown"


def name_status(status: int) -> str:
    """Return the label of an HTTP status, whatever a server makes up; 0 is no answer."""
    if status == 0:
        return "none"
    return str(status) if 100 <= status <= 599 else "other"


def _make(family: Family, registry: CollectorRegistry) -> Any:
    name, text, labels = family.full_name, family.text, family.labels
    if family.kind == "histogram":
        return Histogram(name, text, labels, registry=registry, buckets=family.buckets)
    if family.kind == "gauge":
        return Gauge(name, text, labels, registry=registry, multiprocess_mode="livemax")
    return Counter(name, text, labels, registry=registry)
