"""One connection's or authorization's story: its state, what happened as a timeline, and what happens next."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from models.journal import Decision, ListProblem, Request, Verb, sentence_of
from models.oauth.authorization import Authorization, Confirmation, failed_steps
from models.oauth.connection import Connection, Status
from models.store import Transaction
from models.sync.sync_run import RunStatus, SyncRun, plan_lists
from worker.operations.story import (
    AuthorizationStory,
    ConnectionStory,
    describe_progress,
    describe_state,
    describe_step,
    format_evidence,
    shown_fields,
    story_of,
)
from worker.operator.views.events import EventLine, lines_of
from worker.operator.views.places import can_be_stored
from worker.operator.views.sources import Sources

Kind = Literal["decision", "call", "event", "run", "step"]
ConnectionAction = Literal["refresh", "sync", "disconnect"]
most_calls = 50
most_events = 50
most_runs = 20
most_related = 5
bad_verbs: Final = frozenset(
    {
        Verb.refresh_unknown,
        Verb.refresh_malformed,
        Verb.refresh_token_unreadable,
        Verb.refresh_unavailable,
        Verb.refresh_scope_refused,
        Verb.client_rejected,
        Verb.resolved_lost,
        Verb.refusal_waits,
        Verb.refusal_held,
        Verb.revoked_access_revoked,
        Verb.revoked_refresh_rejected,
        Verb.revoked_refresh_expired,
        Verb.revoked_rotation_lost,
        Verb.revoked_upstream_unconfirmed,
        Verb.access_refused,
        Verb.sync_token_unreadable,
        Verb.sync_failed,
        Verb.list_failing,
        Verb.deletion_held_back,
        Verb.exchange_unknown,
        Verb.exchange_client_unknown,
        Verb.exchange_code_unreadable,
        *(verb for verb in Verb if verb.value.startswith("failed.")),
    }
)
bad_events: Final = frozenset(
    {
        "connection.authorization_failed",
        "connection.reauthorization_required",
        "connection.access_limited",
        "sync.failed",
        "provider.client_rejected",
        "provider.unavailable",
        "provider.mass_refusal",
    }
)


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened.

    kind: a decision of ours, a call to the provider, an event for the application, a sync, or an authorization's step.
    name: the word for it: a decision's verb, an event's type, a call's method, a run's status, a step's field.
    title: a sentence; of a call its method, path and status.
    detail: more of it on one line; empty for nothing.
    is_bad: whether it is a failure.
    evidence: the same as names and values.
    """

    at: datetime
    kind: Kind
    name: str
    title: str
    detail: str
    is_bad: bool
    evidence: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Resource:
    """What is stored of one kind of record; `problem` says why its list could not be read last, None if it could."""

    name: str
    records: int
    problem: str | None


@dataclass(frozen=True, slots=True)
class Story:
    """A connection's story, or an authorization's.

    kind: which of them.
    id, user_id, provider: whose it is.
    state: one sentence.
    is_bad: whether something is wrong with it.
    facts: names and values of its row, for a table; no secret.
    next_steps: what happens next, a sentence each.
    moments: the newest first.
    resources, progress: what is stored, and how far a running sync is; of a connection only.
    actions: what an operator can do now.
    disconnect_due: whether a disconnect was asked for and is not carried out yet.
    related: ids of the connection that an authorization became, or of a connection's newest authorizations.
    """

    now: datetime
    kind: Literal["connection", "authorization"]
    id: str
    user_id: str
    provider: str
    state: str
    is_bad: bool
    facts: Mapping[str, object]
    next_steps: Sequence[str]
    moments: Sequence[Moment]
    resources: Sequence[Resource]
    progress: str | None
    actions: Sequence[ConnectionAction]
    disconnect_due: bool
    related: Sequence[str]


def load_story(sources: Sources, subject_id: str) -> Story | None:
    """Load the story of the connection or authorization with exactly this id; None if there is none."""
    if not can_be_stored(subject_id):
        return None
    with sources.store.reading() as tx:
        subject = tx.connections.get(subject_id) or tx.authorizations.get(subject_id)
        if subject is None:
            return None
        story = story_of(tx, sources.providers, subject, most_calls)
        events = lines_of(tx.search.events_of(subject.id, None, most_events))
        if isinstance(story, ConnectionStory):
            return _of_connection(tx, story, events)
        return _of_authorization(tx, story, events)


def _of_connection(tx: Transaction, story: ConnectionStory, events: Sequence[EventLine]) -> Story:
    found, run = story.found, story.run
    runs = tx.runs.newest_of(found.id, most_runs)
    names = sorted({*story.records, *story.problems})
    return Story(
        now=tx.overview.time(),
        kind="connection",
        id=found.id,
        user_id=found.user_id,
        provider=found.provider,
        state=describe_state(found),
        is_bad=found.status is Status.revoked or found.problem is not None,
        facts=facts_of(found),
        next_steps=story.next_steps,
        moments=merge(
            map(_of_decision, story.decisions), map(_of_call, story.calls), map(_of_event, events), map(_of_run, runs)
        ),
        resources=[Resource(each, story.records.get(each, 0), _problem_of(story.problems, each)) for each in names],
        progress=_progress_of(story, run),
        actions=choose_actions(found),
        disconnect_due=tx.connections.pending_disconnect(found.id) is not None,
        related=tx.search.authorizations_of(found.id, most_related),
    )


def _of_authorization(tx: Transaction, story: AuthorizationStory, events: Sequence[EventLine]) -> Story:
    found = story.found
    return Story(
        now=tx.overview.time(),
        kind="authorization",
        id=found.id,
        user_id=found.user_id,
        provider=found.provider,
        state=describe_step(found),
        is_bad=found.step in failed_steps,
        facts={name: getattr(found, name) for name in shown_fields},
        next_steps=story.next_steps,
        moments=merge(
            map(_of_decision, story.decisions), map(_of_call, story.calls), map(_of_event, events), steps_of(found)
        ),
        resources=[],
        progress=None,
        actions=[],
        disconnect_due=False,
        related=[] if found.connection_id is None else [found.connection_id],
    )


def facts_of(connection: Connection) -> Mapping[str, object]:
    """Return what a table shows of a connection: all of its row that is no detail of the schedule."""
    names = (
        "id",
        "user_id",
        "provider",
        "client_id",
        "account_id",
        "email",
        "status",
        "problem",
        "scope",
        "team_ids",
        "generation",
        "created_at",
        "expires_at",
        "refresh_due_at",
        "sync_due_at",
        "last_synced_at",
        "revoked_at",
        "revoked_reason",
    )
    return {name: getattr(connection, name) for name in names}


def choose_actions(connection: Connection) -> Sequence[ConnectionAction]:
    """Return what an operator can do with a connection."""
    if connection.status is Status.active:
        return ["refresh", "sync", "disconnect"]
    return ["disconnect"]


def merge(*parts: Iterator[Moment]) -> Sequence[Moment]:
    """Return all moments, the newest first; of those at one time, what caused the others comes last."""
    order: Mapping[Kind, int] = {"step": 0, "call": 1, "decision": 2, "run": 3, "event": 4}
    moments = [moment for part in parts for moment in part]
    return sorted(moments, key=lambda moment: (moment.at, order[moment.kind]), reverse=True)


def _of_decision(decision: Decision) -> Moment:
    return Moment(
        at=decision.at,
        kind="decision",
        name=decision.verb,
        title=sentence_of(Verb, decision.verb),
        detail=format_evidence(decision.evidence),
        is_bad=decision.verb in bad_verbs,
        evidence=decision.evidence,
    )


def _of_call(call: Request) -> Moment:
    answer = str(call.status) if call.status else "no response"
    return Moment(
        at=call.at,
        kind="call",
        name=call.method,
        title=f"{call.method} {call.path}: {answer}",
        detail=f"{call.duration_ms} ms",
        is_bad=call.status == 0 or call.status >= 400,
        evidence={"path": call.path, "status": call.status, "duration_ms": call.duration_ms},
    )


def _of_event(event: EventLine) -> Moment:
    published = "" if event.is_published else "not published yet"
    return Moment(
        at=event.at,
        kind="event",
        name=event.type,
        title=f"{event.type} for the application",
        detail=", ".join(part for part in (event.summary, published) if part),
        is_bad=event.type in bad_events,
        evidence={"id": event.id, "sequence": event.sequence, "count": event.count, **event.data},
    )


def _of_run(run: SyncRun) -> Moment:
    counts = {
        f"{resource} {change}": number
        for resource, changes in sorted(run.counts.items())
        for change, number in changes.items()
        if number and change != "unchanged"
    }
    titles = {
        RunStatus.running: "a sync began, and is under way",
        RunStatus.completed: "a sync was completed",
        RunStatus.failed: "a sync failed",
        RunStatus.ended: "a sync ended with its connection",
    }
    why = f"{run.reason}: {run.description}" if run.reason and run.description else run.reason or ""
    found = ", ".join(f"{number} {what}" for what, number in counts.items()) or "nothing changed"
    return Moment(
        at=run.finished_at or run.started_at,
        kind="run",
        name=run.status.value,
        title=titles[run.status] + (", as someone had asked" if run.requested else ""),
        detail=", ".join(part for part in (why, found) if part),
        is_bad=run.status is RunStatus.failed,
        evidence={"id": run.id, "depth": run.depth, "started_at": run.started_at, **counts},
    )


def steps_of(found: Authorization) -> Iterator[Moment]:
    """Yield what a user's browser and we did, as the authorization's row says."""
    by_page = found.confirmation is Confirmation.page
    happened = {
        "created_at": "the link was opened",
        "confirmed_at": "a person confirmed on our page" if by_page else "the application confirmed",
        "code_received_at": "the code arrived",
        "presented_at": "the code was sent to the token endpoint",
    }
    for name, title in happened.items():
        at: datetime | None = getattr(found, name)
        if at is not None:
            yield Moment(at, "step", name, title, "", False, {})


def _problem_of(problems: Mapping[str, str], name: str) -> str | None:
    return sentence_of(ListProblem, problems[name]) if name in problems else None


def _progress_of(story: ConnectionStory, run: SyncRun | None) -> str | None:
    if run is None or story.profile is None:
        return None
    keys = [each.key for each in plan_lists(story.profile, story.found.team_ids, run.depth, run.parents)]
    return describe_progress(run, keys, story.totals)
