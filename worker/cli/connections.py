"""Commands that list connections, and that sync, refresh or disconnect them."""

import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import typer

from models.audit.entry import Channel
from models.journal import Problem, Verb
from models.messaging import messages
from models.oauth.connection import Connection, Status
from models.store import Store, Transaction
from models.store.connections import any_problem
from models.store.search import Conditions
from models.sync.sync_run import SyncRun
from worker.cli.context import load_settings, opened_queues, opened_store
from worker.cli.output import (
    AsJson,
    CommandFailed,
    NotFound,
    WrongUsage,
    make_table,
    print_json,
    print_line,
    print_rich,
    print_warning,
    report_errors,
    reports_json,
)
from worker.cli.progress import describe_failure, follow_run
from worker.cli.subjects import find_oldest
from worker.operations.next_steps import Outlook, describe_next
from worker.operations.requests import Asked, carry_out, message_of
from worker.operations.story import describe_state

ConnectionId = Annotated[str | None, typer.Argument(metavar="CONNECTION", help="The connection's id.")]
OfUser = Annotated[str | None, typer.Option(help="All connections of this user.")]
OfProvider = Annotated[str | None, typer.Option(help="Only those at this provider.")]

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


known_problems = [each.value for each in Problem]


def _name_problems() -> list[str]:
    return [any_problem, *known_problems]


def _check_problem(given: str | None) -> str | None:
    if given is not None and given not in _name_problems():
        raise typer.BadParameter(f"{given!r} is not {any_problem}, and not one of {', '.join(known_problems)}.")
    return given


@report_errors
def connections(
    status: Annotated[Status | None, typer.Option(help="Only connections with this status.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user's.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only at this provider.")] = None,
    problem: Annotated[
        str | None,
        typer.Option(
            callback=_check_problem,
            autocompletion=_name_problems,
            help="Only connections with this problem; any stands for each.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List connections, oldest first."""
    with opened_store(load_settings()) as store, store.reading() as tx:
        is_cut = False
        if user is None:
            found, is_cut = find_oldest(tx, Conditions(provider, status, problem), most_listed)
        else:
            wanted = None if status is None else status.value
            found = tx.connections.find(
                user_id=user, provider=provider, status=wanted, problem=problem, limit=most_listed
            )
    if is_cut:
        print_warning(
            "Many have this status or problem, and only the oldest were looked at. Narrow them down with --user."
        )
    if as_json:
        print_json(found)
        return
    head = [name.removesuffix("_at").replace("_", " ") for name in columns]
    print_rich(make_table(head, [[getattr(each, name) for name in columns] for each in found]))
    if len(found) == most_listed:
        print_warning(
            f"Only the first {most_listed} are shown. Narrow them down with --user, --provider, --status or --problem."
        )


@report_errors
def sync(
    connection: ConnectionId = None,
    user: OfUser = None,
    provider: OfProvider = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show the progress until the sync ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Sync a connection's data now."""
    settings = load_settings()
    with opened_store(settings) as store:
        with store.reading() as tx:
            targets = _find_active(tx, connection, user, provider)
            before = {target.id: tx.runs.newest(target.id) for target in targets}
        with opened_queues(settings) as queues:
            with store.writing() as tx:
                now = tx.overview.time()
                for target in targets:
                    carry_out(tx, Asked("sync", target.id), Channel.cli, now)
            for target in targets:
                queues.send(message_of(Asked("sync", target.id)))
        if not follow:
            _print_sent("sync", targets, as_json)
            return
        ended = [follow_run(store, target, before[target.id], as_json) for target in targets]
    if as_json:
        runs = [each if isinstance(each, SyncRun) else None for each in ended]
        print_json([{"connection_id": target.id, "run": run} for target, run in zip(targets, runs, strict=True)])
    failures = [failure for each in ended if (failure := describe_failure(each)) is not None]
    if failures:
        raise CommandFailed("\n".join(failures))


@report_errors
def refresh(
    connection: ConnectionId = None, user: OfUser = None, provider: OfProvider = None, as_json: AsJson = False
) -> None:
    """Refresh a connection's tokens now, even if they are not due; at most once a minute for each connection."""
    settings = load_settings()
    with opened_store(settings) as store:
        with store.reading() as tx:
            targets = _find_active(tx, connection, user, provider)
        with opened_queues(settings) as queues:
            with store.writing() as tx:
                now = tx.overview.time()
                asked = {target: carry_out(tx, Asked("refresh", target.id), Channel.cli, now) for target in targets}
            enqueued = [target for target, is_due in asked.items() if is_due]
            for target in enqueued:
                queues.send(messages.refresh_token(target.id))
    refused = [
        f"{target.id}: a refresh was asked for less than a minute ago, or it has no refresh token."
        for target in targets
        if target not in enqueued
    ]
    if not enqueued:
        raise CommandFailed("\n".join(refused))
    _print_sent("refresh", enqueued, as_json)
    for line in refused:
        print_warning(line)


@report_errors
def disconnect(
    connection: ConnectionId = None,
    user: OfUser = None,
    provider: OfProvider = None,
    erase: Annotated[bool, typer.Option("--erase", help="Delete its records as well, for good.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Erase without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Disconnect an account: erase its tokens, and revoke them at the provider if it has an endpoint for that."""
    settings = load_settings()
    with opened_store(settings) as store:
        with store.reading() as tx:
            targets = _find(tx, connection, user, provider)
            if erase and not yes:
                _ask_before_erasing(tx, targets)
        with opened_queues(settings) as queues:
            with store.writing() as tx:
                now = tx.overview.time()
                for target in targets:
                    carry_out(tx, Asked("disconnect", target.id, erase), Channel.cli, now)
            for target in targets:
                queues.send(message_of(Asked("disconnect", target.id)))
        if not erase:
            _print_sent("disconnect", targets, as_json)
            return
        late = _wait_until_disconnected(store, targets)
        done = [target.id for target in targets if target.id not in late]
        with store.reading() as tx:
            erased = {each: _count_erased(tx, each) for each in done}
    if as_json:
        print_json([{"connection_id": each, "records_erased": count} for each, count in erased.items()])
    else:
        for each, count in erased.items():
            print_line(f"{each}: disconnected, {count} records erased")
    if late:
        seconds = wait_for_disconnect.total_seconds()
        raise CommandFailed(
            f"Not disconnected after {seconds:.0f} s: {', '.join(late)}. Check that a worker is running; "
            "it disconnects them as soon as it runs."
        )


def _ask_before_erasing(tx: Transaction, targets: Sequence[Connection]) -> None:
    """Show what would be erased, and ask. Raises `WrongUsage` without a terminal, `CommandFailed` for a no."""
    for target in targets:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(tx.records.count(target.id).items()))
        print_warning(f"{target.id} of {target.user_id}, {target.email or target.account_id}: {counts or 'no records'}")
    if reports_json() or not sys.stdin.isatty():
        raise WrongUsage("--erase deletes these records for good. Give --yes as well if that is meant.")
    if not typer.confirm("Disconnect, and delete these records for good?", err=True):
        raise CommandFailed("Nothing was changed.")


def _get(tx: Transaction, connection_id: str) -> Connection:
    found = tx.connections.get(connection_id)
    if found is None:
        raise NotFound(f"There is no connection {connection_id}. List them with breezesync connections.")
    return found


def _find(tx: Transaction, connection_id: str | None, user: str | None, provider: str | None) -> Sequence[Connection]:
    """Return the one connection, or the user's.

    Raises `WrongUsage` if neither or both are given, `NotFound` if there is none.
    """
    if (connection_id is None) == (user is None):
        raise WrongUsage("Give either a CONNECTION or --user.")
    if connection_id is not None:
        if provider is not None:
            raise WrongUsage("--provider needs --user.")
        return [_get(tx, connection_id)]
    found = tx.connections.find(user_id=user, provider=provider)
    if not found:
        raise NotFound(f"User {user} has no connection{f' at {provider}' if provider else ''}.")
    return found


def _find_active(
    tx: Transaction, connection_id: str | None, user: str | None, provider: str | None
) -> Sequence[Connection]:
    found = _find(tx, connection_id, user, provider)
    active = [each for each in found if each.status is Status.active]
    if not active:
        now = tx.overview.time()
        lines = [f"{each.id} is {describe_state(each)}; {describe_next(each, Outlook(), now)[0]}" for each in found]
        raise CommandFailed("\n".join(lines))
    return active


def _print_sent(verb: str, targets: Sequence[Connection], as_json: bool) -> None:
    if as_json:
        print_json([{"command": verb, "connection_id": target.id} for target in targets])
        return
    for target in targets:
        print_line(f"{verb} enqueued for {target.id}. Follow it with breezesync explain {target.id}")


def _wait_until_disconnected(store: Store, targets: Sequence[Connection]) -> list[str]:
    """Wait for the worker, and return the ids of those that it did not disconnect in time."""
    deadline = time.monotonic() + wait_for_disconnect.total_seconds()
    while True:
        with store.reading() as tx:
            late = [target.id for target in targets if tx.connections.pending_disconnect(target.id) is not None]
        if not late or time.monotonic() >= deadline:
            return late
        time.sleep(0.1)


def _count_erased(tx: Transaction, connection_id: str) -> int:
    """Return how many records were deleted when they were last erased."""
    counts = [
        each.evidence["records"] for each in tx.journal.decisions_of(connection_id) if each.verb == Verb.records_erased
    ]
    return int(str(counts[-1])) if counts else 0
