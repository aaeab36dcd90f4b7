"""Connections: listed, explained, and asked to sync, refresh or let go."""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import typer
from rich.markup import escape

from config.wiring import now
from models.messaging import messages
from models.oauth.connection import Connection, Status
from models.store import Store, Transaction
from models.store.journal import Decision
from models.sync.sync_run import SyncRun, plan_lists
from worker.cli.context import opened_queues, opened_store, settings_for
from worker.cli.explain import list_problems, mean, tell_evidence, tell_run, tell_state
from worker.cli.outlook import Outlook, tell_next
from worker.cli.output import (
    AsJson,
    CommandFailed,
    NotThere,
    WrongUsage,
    complain,
    plainly,
    say,
    say_json,
    say_rich,
    tabulate,
    to_text,
)
from worker.cli.progress import follow_run, tell_failure

ConnectionId = Annotated[str | None, typer.Argument(metavar="CONNECTION", help="The connection's id.")]
OfUser = Annotated[str | None, typer.Option(help="All connections of this user instead.")]
OfProvider = Annotated[str | None, typer.Option(help="Of those, the ones at this provider.")]

columns = (
    "id",
    "user_id",
    "provider",
    "email",
    "status",
    "problem",
    "generation",
    "expires_at",
    "refresh_due_at",
    "last_synced_at",
)
most_listed = 1000
wait_for_disconnect = timedelta(seconds=30)


@plainly
def connections(
    status: Annotated[Status | None, typer.Option(help="Only these.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user's.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only at this provider.")] = None,
    as_json: AsJson = False,
) -> None:
    """List connections, the oldest first."""
    with opened_store(settings_for()) as store, store.reading() as tx:
        wanted = None if status is None else status.value
        found = tx.connections.find(user_id=user, provider=provider, status=wanted, limit=most_listed)
    if as_json:
        say_json(found)
        return
    head = [name.removesuffix("_at").replace("_", " ") for name in columns]
    say_rich(tabulate(head, [[getattr(each, name) for name in columns] for each in found]))
    if len(found) == most_listed:
        complain(f"These are the first {most_listed}; --user, --provider and --status narrow them down.")


@plainly
def explain(
    connection_id: Annotated[str, typer.Argument(metavar="CONNECTION", help="The connection's id.")],
    as_json: AsJson = False,
) -> None:
    """Tell what was decided about one connection and why, how it stands, and what happens next."""
    settings = settings_for()
    with opened_store(settings) as store, store.reading() as tx:
        found = _get(tx, connection_id)
        decisions = tx.journal.decisions_of(connection_id)
        calls = tx.journal.calls_of(connection_id, limit=5)
        run = tx.runs.running(connection_id)
        client = tx.clients.get(found.provider, found.client_id)
        credential, pace = tx.credentials.get(connection_id), tx.paces.get(found.provider)
        totals = {} if run is None else tx.runs.totals_of(run.id)
        records, unread = tx.records.count(connection_id), tx.records.resource_problems(connection_id)
    moment = now()
    profile = settings.provider(found.provider)
    coming = tell_next(found, Outlook(credential, client, profile, pace, run), moment)
    if as_json:
        say_json(
            {
                "connection": found,
                "state": tell_state(found),
                "next": coming,
                "run": run,
                "records": records,
                "unreadable": unread,
                "decisions": decisions,
                "calls": calls,
            }
        )
        return
    about = escape(f"{found.user_id} at {found.provider}, account {found.account_id} {found.email or ''}".rstrip())
    say_rich(f"[bold]{about}[/]\n{escape(tell_state(found))}\n")
    say_rich("[bold]Decided[/]", tabulate((), [(d.at, _tell_decision(d)) for d in decisions]))
    if calls:
        rows = [(c.at, c.method, c.path, c.status or "no answer", f"{c.duration_ms} ms") for c in calls]
        say_rich("\n[bold]Last calls[/]", tabulate((), rows))
    counted = ", ".join(f"{count} {name}" for name, count in sorted(records.items()))
    say_rich(f"\n[bold]Records[/] {escape(counted or 'none')}")
    for name, problem in unread.items():
        say_rich(escape(f"  {name}: {list_problems.get(problem, problem)}"))
    if run is not None and profile is not None:
        keys = [each.key for each in plan_lists(profile, found.team_ids, run.depth)]
        say_rich(f"[bold]Reading now[/] {escape(tell_run(run, keys, totals))}, since {to_text(run.started_at)}")
    say_rich("[bold]Next[/]")
    say_rich(tabulate((), [("  -", line) for line in coming]))


def _tell_decision(decision: Decision) -> str:
    """What it meant, and below it what was seen: two short lines on any terminal."""
    evidence = tell_evidence(decision.evidence)
    return mean(decision.verb) + (f"\n  {evidence}" if evidence else "")


@plainly
def sync(
    connection: ConnectionId = None,
    user: OfUser = None,
    provider: OfProvider = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show how the reading goes until it ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read a connection now."""
    settings = settings_for()
    with opened_store(settings) as store:
        with store.reading() as tx:
            targets = _find_active(tx, connection, user, provider)
            before = {target.id: tx.runs.newest(target.id) for target in targets}
        with opened_queues(settings) as queues:
            for target in targets:
                queues.send(messages.sync_connection(target.id))
        if not follow:
            _say_sent("sync", targets, as_json)
            return
        ended = [follow_run(store, target, before[target.id], as_json) for target in targets]
    if as_json:
        runs = [each if isinstance(each, SyncRun) else None for each in ended]
        say_json([{"connection_id": target.id, "run": run} for target, run in zip(targets, runs, strict=True)])
    failures = [failure for each in ended if (failure := tell_failure(each)) is not None]
    if failures:
        raise CommandFailed("\n".join(failures))


@plainly
def refresh(
    connection: ConnectionId = None, user: OfUser = None, provider: OfProvider = None, as_json: AsJson = False
) -> None:
    """Refresh a connection's tokens now, due or not."""
    settings = settings_for()
    with opened_store(settings) as store, opened_queues(settings) as queues:
        with store.writing() as tx:
            targets = _find_active(tx, connection, user, provider)
            for target in targets:
                tx.connections.make_refresh_due(target.id, now())
        for target in targets:
            queues.send(messages.refresh_token(target.id))
    _say_sent("refresh", targets, as_json)


@plainly
def disconnect(
    connection: ConnectionId = None,
    user: OfUser = None,
    provider: OfProvider = None,
    erase: Annotated[bool, typer.Option("--erase", help="Then delete its records for good.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let go of an account: tokens erased, revoked at the provider where it has an endpoint."""
    settings = settings_for()
    with opened_store(settings) as store:
        with store.reading() as tx:
            targets = _find(tx, connection, user, provider)
        with opened_queues(settings) as queues:
            with store.writing() as tx:
                for target in targets:
                    tx.connections.request_disconnect(target.id, now(), erase)
            for target in targets:
                queues.send(messages.carry_out_disconnect(target.id))
        if not erase:
            _say_sent("disconnect", targets, as_json)
            return
        late = _wait_until_disconnected(store, targets)
        done = [target.id for target in targets if target.id not in late]
        with store.reading() as tx:
            erased = {each: _count_erased(tx, each) for each in done}
    if as_json:
        say_json([{"connection_id": each, "records_erased": count} for each, count in erased.items()])
    else:
        for each, count in erased.items():
            say(f"{each}: disconnected, {count} records erased")
    if late:
        seconds = wait_for_disconnect.total_seconds()
        raise CommandFailed(
            f"Not disconnected within {seconds:.0f} s: {', '.join(late)}. Is a worker running? "
            "It stays due, and is done when one does."
        )


def _get(tx: Transaction, connection_id: str) -> Connection:
    found = tx.connections.get(connection_id)
    if found is None:
        raise NotThere(f"There is no connection {connection_id}; breezesync connections lists them.")
    return found


def _find(tx: Transaction, connection_id: str | None, user: str | None, provider: str | None) -> Sequence[Connection]:
    """The one connection, or the user's. Raises `WrongUsage` where it is neither or both, `NotThere`."""
    if (connection_id is None) == (user is None):
        raise WrongUsage("Name either a CONNECTION or --user.")
    if connection_id is not None:
        if provider is not None:
            raise WrongUsage("--provider goes with --user.")
        return [_get(tx, connection_id)]
    found = tx.connections.find(user_id=user, provider=provider)
    if not found:
        raise NotThere(f"User {user} has no connection{f' at {provider}' if provider else ''}.")
    return found


def _find_active(
    tx: Transaction, connection_id: str | None, user: str | None, provider: str | None
) -> Sequence[Connection]:
    found = _find(tx, connection_id, user, provider)
    active = [each for each in found if each.status is Status.active]
    if not active:
        lines = [f"{each.id} is {tell_state(each)}; {tell_next(each, Outlook(), now())[0]}" for each in found]
        raise CommandFailed("\n".join(lines))
    return active


def _say_sent(verb: str, targets: Sequence[Connection], as_json: bool) -> None:
    if as_json:
        say_json([{"command": verb, "connection_id": target.id} for target in targets])
        return
    for target in targets:
        say(f"{verb} sent for {target.id}: breezesync explain {target.id}")


def _wait_until_disconnected(store: Store, targets: Sequence[Connection]) -> list[str]:
    """Waits for the worker; returns the ids of those that it did not come to in time."""
    deadline = now() + wait_for_disconnect
    while True:
        with store.reading() as tx:
            late = [target.id for target in targets if tx.connections.disconnect_due_at(target.id) is not None]
        if not late or now() >= deadline:
            return late
        time.sleep(0.1)


def _count_erased(tx: Transaction, connection_id: str) -> int:
    """How many records went when they were erased last."""
    counts = [
        each.evidence["records"] for each in tx.journal.decisions_of(connection_id) if each.verb == "records.erased"
    ]
    return int(str(counts[-1])) if counts else 0
