"""One connection's or authorization's story: its state, what was decided and why, and what happens next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.journal import Decision, Problem, Request, sentence_of
from models.oauth.authorization import Authorization, Step, awaits_application, awaits_click
from models.oauth.connection import Connection, Status
from models.provider import Provider
from models.store import Transaction
from models.sync.sync_run import SyncRun
from worker.operations.next_steps import Outlook, describe_next, describe_next_of_authorization

revoked_reasons = {
    "access_revoked": "the user revoked access at the provider",
    "refresh_rejected": "the provider rejected the refresh token",
    "refresh_expired": "the refresh token has expired",
    "rotation_lost": "the provider's answer to a refresh was lost, and the new tokens with it",
}

shown_fields = (
    "id",
    "user_id",
    "provider",
    "client_id",
    "step",
    "created_at",
    "expires_at",
    "code_received_at",
    "presented_at",
    "due_at",
    "attempts",
    "reason",
    "description",
    "connection_id",
    "confirmation",
    "confirmed_at",
)
"""An authorization's fields that hold no secret and no hash of one."""


@dataclass(frozen=True, slots=True)
class ConnectionStory:
    """All that is said about a connection; `totals` are the sizes of the lists that `run` reads."""

    found: Connection
    profile: Provider | None
    run: SyncRun | None
    totals: Mapping[str, int]
    records: Mapping[str, int]
    problems: Mapping[str, str]
    decisions: Sequence[Decision]
    calls: Sequence[Request]
    next_steps: Sequence[str]

    def as_json(self) -> Mapping[str, object]:
        return {
            "connection": self.found,
            "state": describe_state(self.found),
            "next": self.next_steps,
            "run": self.run,
            "records": self.records,
            "unreadable": self.problems,
            "decisions": self.decisions,
            "calls": self.calls,
        }


@dataclass(frozen=True, slots=True)
class AuthorizationStory:
    """All that is said about an authorization."""

    found: Authorization
    decisions: Sequence[Decision]
    calls: Sequence[Request]
    next_steps: Sequence[str]

    def as_json(self) -> Mapping[str, object]:
        return {
            "authorization": {name: getattr(self.found, name) for name in shown_fields},
            "state": describe_step(self.found),
            "next": self.next_steps,
            "decisions": self.decisions,
            "calls": self.calls,
        }


def story_of(
    tx: Transaction, providers: Mapping[str, Provider], subject: Connection | Authorization, most_calls: int
) -> ConnectionStory | AuthorizationStory:
    """Return the story of a connection or authorization, with at most `most_calls` of its newest requests."""
    if isinstance(subject, Connection):
        return _story_of_connection(tx, providers.get(subject.provider), subject, most_calls)
    decisions = tx.journal.decisions_of(subject.id)
    calls = tx.journal.calls_of(subject.id, limit=most_calls)
    next_steps = describe_next_of_authorization(subject, tx.overview.time())
    return AuthorizationStory(subject, decisions, calls, next_steps)


def _story_of_connection(
    tx: Transaction, profile: Provider | None, found: Connection, most_calls: int
) -> ConnectionStory:
    run, lease = tx.runs.under_way(found.id)
    outlook = Outlook(
        credential=tx.credentials.get(found.id),
        client=tx.clients.get(found.provider, found.client_id),
        provider=profile,
        pace=tx.paces.get(found.provider),
        run=run,
        lease=lease,
        refusal=tx.refusals.get(found.id),
    )
    return ConnectionStory(
        found=found,
        profile=profile,
        run=run,
        totals={} if run is None else tx.runs.totals_of(run.id),
        records=tx.records.count(found.id),
        problems=tx.records.resource_problems(found.id),
        decisions=tx.journal.decisions_of(found.id),
        calls=tx.journal.calls_of(found.id, limit=most_calls),
        next_steps=describe_next(found, outlook, tx.overview.time()),
    )


def describe_state(connection: Connection) -> str:
    """Return the connection's state as a phrase that follows its id and "is"."""
    match connection.status:
        case Status.active if connection.problem is not None:
            return f"active, but {sentence_of(Problem, connection.problem)}"
        case Status.active:
            return "active"
        case Status.revoked:
            reason = connection.revoked_reason or ""
            return f"revoked: {revoked_reasons.get(reason, reason)}"
        case Status.disconnected:
            return "disconnected by us; its tokens are erased"


def describe_step(authorization: Authorization) -> str:
    """Return how far the authorization has come."""
    match authorization.step:
        case Step.started if awaits_click(authorization):
            return "our page is open in a browser, and no one has clicked on it yet"
        case Step.received if awaits_application(authorization):
            return "the code has arrived, and is kept until the application confirms whose browser brought it"
        case Step.started:
            return "the user has not come back from the provider yet"
        case Step.received:
            return "the code has arrived and is not exchanged yet" + _describe_hold_up(authorization)
        case Step.granted:
            text = "the tokens are here; the account they belong to is not known yet"
            return text + _describe_hold_up(authorization)
        case Step.connected:
            return f"connected: it became connection {authorization.connection_id}"
        case Step.denied:
            return "ended: the user did not allow access"
        case Step.failed:
            return f"failed ({authorization.reason}): {authorization.description}"


def _describe_hold_up(authorization: Authorization) -> str:
    return f"; the last attempt failed: {authorization.description}" if authorization.reason else ""


def describe_progress(run: SyncRun, keys: Sequence[str], totals: Mapping[str, int]) -> str:
    """Return which page a run reads next: `keys` names its lists in order, `totals` how many records each holds."""
    if run.place >= len(keys):
        return "all lists are read"
    key = keys[run.place]
    page = f"page {run.page}" if run.page else "a look at the newest records"
    size = f" of {totals[key]} records" if key in totals else ""
    attempt = f", pass {run.pass_number + 1}" if run.pass_number else ""
    return f"{key} (list {run.place + 1} of {len(keys)}{size}), {page}{attempt}"


def format_evidence(evidence: Mapping[str, object]) -> str:
    """Return names and values on one line."""
    return ", ".join(f"{name} {value}" for name, value in evidence.items())
