"""Whether a message starts a run, continues one or changes nothing."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from models.clock import is_due
from models.journal import Note, Problem, Verb
from models.oauth.claims import released, unchanged_claims
from models.oauth.connection import Connection, note_problem
from models.sync.cadence import choose_depth
from models.sync.decision import StepDecision, go_on, park
from models.sync.sync_run import RunStatus, SyncLease, SyncRun


@dataclass(frozen=True, slots=True)
class StartRequest:
    """One message for a connection's sync.

    requested: whether someone asked for it; otherwise it was due.
    repeated: whether it already started a run and is delivered again; then it counts as due, not as requested.
    run_id: the id of the run that it starts.
    owner: the name that the job leases with.
    """

    requested: bool
    repeated: bool
    run_id: str
    owner: str


def start(
    connection: Connection, run: SyncRun | None, lease: SyncLease | None, request: StartRequest, now: datetime
) -> StepDecision | None:
    """Return the decision that leases the connection's run, or a new one; None if there is nothing to do.

    `run` is the one that is under way, `lease` that of one that is not stored. A request during a run leads to one more
    run after it; the decision without a run notes just that.
    """
    requested = request.requested and not request.repeated
    decision = StepDecision(subject=connection, at=now)
    is_leased = lease is not None and lease.is_valid(now)
    if requested and (run is not None or is_leased):
        connection = replace(connection, sync_requested=True)
        decision = replace(decision, connection=connection, claims=unchanged_claims)
    if is_leased or (run is not None and _must_wait(run, connection, requested, now)):
        return decision if requested else None
    if run is None and not requested and not _is_due(connection, now):
        return None
    if run is not None:
        return _lease(decision, connection, run, request)
    requested = requested or connection.sync_requested
    depth = choose_depth(connection, requested, now)
    new = SyncRun(request.run_id, connection.id, RunStatus.running, now, depth, requested)
    return _lease(replace(decision, begins=True), replace(connection, sync_requested=False), new, request)


def set_aside(decision: StepDecision, run: SyncRun, interval: timedelta) -> StepDecision:
    """Wait for an operator, because the access token cannot be decrypted; the run tries again at every interval."""
    connection = decision.connection or decision.subject
    troubled = replace(decision, connection=note_problem(connection, Problem.token_unreadable))
    if decision.subject.problem != Problem.token_unreadable:
        note = Note(Verb.sync_token_unreadable, {"generation": connection.generation})
        troubled = replace(troubled, notes=(note,))
    return park(troubled, run, decision.at + interval)


def _lease(decision: StepDecision, connection: Connection, run: SyncRun, request: StartRequest) -> StepDecision:
    leased = replace(run, lease_owner=request.owner, resume_at=None)
    return go_on(replace(decision, connection=connection, claims=released), leased)


def _is_due(connection: Connection, now: datetime) -> bool:
    """A message may come late, after another one did its work."""
    return is_due(connection.sync_due_at, now)


def _must_wait(run: SyncRun, connection: Connection, requested: bool, now: datetime) -> bool:
    """Whether another job has the run, or its time has not come; a sync that was made due since brings it forward.

    A request brings forward a run that waits for a key: the operator may have put it back.
    """
    if run.lease_until is not None and run.lease_until > now:
        return True
    if requested and connection.problem == Problem.token_unreadable:
        return False
    return run.resume_at is not None and not is_due(run.resume_at, now) and not is_due(connection.sync_due_at, now)
