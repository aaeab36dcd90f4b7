"""`breezesync explain`: what was decided about a connection or an authorization, and what happens next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.markup import escape

from config.settings import Settings
from models.journal import Decision, ListProblem, Problem, Request, Verb, sentence_of
from models.oauth.authorization import Authorization, Confirmation, Step, awaits_application, awaits_click
from models.oauth.connection import Connection, Status
from models.provider import Provider
from models.store import Transaction
from models.sync.sync_run import SyncRun, plan_lists
from worker.cli.context import load_settings, opened_store
from worker.cli.next_steps import Outlook, describe_next, describe_next_of_authorization
from worker.cli.output import AsJson, WrongUsage, make_table, print_json, print_rich, report_errors, to_text
from worker.cli.subjects import find_of_user, find_subject

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

shown_calls = 5


@report_errors
def explain(
    subject: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="The id of a connection or an authorization, or how it begins."),
    ] = None,
    user: Annotated[str | None, typer.Option(help="All connections of this user, or else the last attempt.")] = None,
    as_json: AsJson = False,
) -> None:
    """Explain one connection or authorization: its state, what was decided and why, and what happens next."""
    if (subject is None) == (user is None):
        raise WrongUsage("Give either an ID or --user.")
    settings = load_settings()
    with opened_store(settings) as store, store.reading() as tx:
        found = [find_subject(tx, subject)] if subject is not None else find_of_user(tx, user or "")
        reports = [_load(tx, settings, each) for each in found]
    if as_json:
        print_json(reports[0].as_json() if user is None else [report.as_json() for report in reports])
        return
    for number, report in enumerate(reports):
        if number:
            print_rich("")
        report.show()


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


@dataclass(frozen=True, slots=True)
class _ConnectionReport:
    """All that `explain` says about a connection; `totals` are the sizes of the lists that `run` reads."""

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

    def show(self) -> None:
        found, run = self.found, self.run
        owner = f"{found.user_id} at {found.provider}, account {found.account_id} {found.email or ''}".rstrip()
        _print_head(owner, describe_state(found))
        _print_journal(self.decisions, self.calls)
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.records.items()))
        print_rich(f"\n[bold]Records[/] {escape(counts or 'none')}")
        for name, problem in self.problems.items():
            print_rich(escape(f"  {name}: {sentence_of(ListProblem, problem)}"))
        if run is not None and self.profile is not None:
            keys = [sync_list.key for sync_list in plan_lists(self.profile, found.team_ids, run.depth)]
            progress = describe_progress(run, keys, self.totals)
            print_rich(f"[bold]Syncing[/] {escape(progress)}, since {to_text(run.started_at)}")
        _print_next(self.next_steps)


@dataclass(frozen=True, slots=True)
class _AuthorizationReport:
    """All that `explain` says about an authorization."""

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

    def show(self) -> None:
        found = self.found
        _print_head(f"authorization of {found.user_id} at {found.provider}", describe_step(found))
        by_page = found.confirmation is Confirmation.page
        confirmed = "a person confirmed on our page" if by_page else "the application confirmed"
        happened = [
            (found.created_at, "the link was opened"),
            (found.confirmed_at, confirmed),
            (found.code_received_at, "the code arrived"),
            (found.presented_at, "the code was sent to the token endpoint"),
        ]
        print_rich("[bold]Steps[/]", make_table((), sorted((at, step) for at, step in happened if at is not None)))
        _print_journal(self.decisions, self.calls)
        _print_next(self.next_steps)


def _load(
    tx: Transaction, settings: Settings, subject: Connection | Authorization
) -> _ConnectionReport | _AuthorizationReport:
    if isinstance(subject, Connection):
        return _load_connection(tx, settings, subject)
    authorization = subject
    decisions = tx.journal.decisions_of(authorization.id)
    calls = tx.journal.calls_of(authorization.id, limit=shown_calls)
    next_steps = describe_next_of_authorization(authorization, tx.overview.time())
    return _AuthorizationReport(authorization, decisions, calls, next_steps)


def _load_connection(tx: Transaction, settings: Settings, found: Connection) -> _ConnectionReport:
    run, profile = tx.runs.running(found.id), settings.provider(found.provider)
    outlook = Outlook(
        credential=tx.credentials.get(found.id),
        client=tx.clients.get(found.provider, found.client_id),
        provider=profile,
        pace=tx.paces.get(found.provider),
        run=run,
        refusal=tx.refusals.get(found.id),
    )
    return _ConnectionReport(
        found=found,
        profile=profile,
        run=run,
        totals={} if run is None else tx.runs.totals_of(run.id),
        records=tx.records.count(found.id),
        problems=tx.records.resource_problems(found.id),
        decisions=tx.journal.decisions_of(found.id),
        calls=tx.journal.calls_of(found.id, limit=shown_calls),
        next_steps=describe_next(found, outlook, tx.overview.time()),
    )


def _print_head(owner: str, state: str) -> None:
    print_rich(f"[bold]{escape(owner)}[/]\n{escape(state)}\n")


def _print_journal(decisions: Sequence[Decision], calls: Sequence[Request]) -> None:
    print_rich("[bold]Decisions[/]", make_table((), [(d.at, _describe_decision(d)) for d in decisions]))
    if calls:
        rows = [(c.at, c.method, c.path, c.status or "no response", f"{c.duration_ms} ms") for c in calls]
        print_rich("\n[bold]Last requests[/]", make_table((), rows))


def _describe_decision(decision: Decision) -> str:
    """Return the decision's sentence, and its evidence on a second line, so that both fit on a narrow terminal."""
    evidence = format_evidence(decision.evidence)
    return sentence_of(Verb, decision.verb) + (f"\n  {evidence}" if evidence else "")


def _print_next(steps: Sequence[str]) -> None:
    print_rich("[bold]Next[/]")
    print_rich(make_table((), [("  -", step) for step in steps]))
