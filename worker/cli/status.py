"""`breezesync status`: connections by status, due work, queues and unpublished events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rich.markup import escape

from config.settings import Settings
from models.health.clocks import describe_offset
from models.oauth.client import StoredClient
from models.oauth.connection import Status
from models.oauth.hold import Hold
from models.process import Process, alive_for
from models.queue import Depth
from models.store import Transaction
from worker.cli.context import load_settings, opened_queues, opened_store
from worker.cli.output import AsJson, CommandFailed, make_table, print_json, print_rich, report_errors
from worker.operations.clients import describe_client, state_of
from worker.operations.next_steps import describe_breaker, describe_hold
from worker.operations.texts import format_length


@dataclass(frozen=True, slots=True)
class _Overview:
    """What the database says at `moment`; `oldest` and `since` are since when the first due work and event wait."""

    moment: datetime
    connections: Mapping[str, int]
    problems: Mapping[str, int]
    due: Mapping[str, int]
    oldest: datetime | None
    rejected: Sequence[tuple[str, str, str]]
    breakers: Mapping[StoredClient, Mapping[str, object]]
    held: Mapping[Hold, int]
    unpublished: int
    since: datetime | None
    wrong_clocks: Sequence[Process]


@report_errors
def status(as_json: AsJson = False) -> None:
    """Show connections by status, due work, queue depths and event lag."""
    settings = load_settings()
    with opened_store(settings) as store, store.reading() as tx:
        found = _read(tx)
    depths, failure = _read_depths(settings)
    if as_json:
        print_json(_as_json(found, depths))
    else:
        _print(found, depths)
    if failure is not None:
        raise failure


def _read(tx: Transaction) -> _Overview:
    moment = tx.overview.time()
    waiting, since = tx.outbox.backlog()
    return _Overview(
        moment=moment,
        connections=tx.overview.connections_by_status(),
        problems=tx.overview.active_by_problem(),
        due=tx.overview.due(moment),
        oldest=tx.overview.oldest_due(moment),
        rejected=tx.overview.rejected_clients(),
        breakers={client: describe_client(client, tx) for client in tx.clients.all() if client.is_open},
        held={hold: tx.refusals.count_held(hold.provider, hold.client_id) for hold in tx.refusals.holds()},
        unpublished=waiting,
        since=since,
        wrong_clocks=[each for each in tx.processes.since(moment - alive_for) if each.ahead_seconds],
    )


def _as_json(found: _Overview, depths: Mapping[str, Depth] | None) -> dict[str, object]:
    return {
        "connections": found.connections,
        "problems": found.problems,
        "due": found.due,
        "oldest_due_seconds": _seconds(found.oldest, found.moment),
        "events": {"unpublished": found.unpublished, "lag_seconds": _seconds(found.since, found.moment)},
        "queues": depths,
        "clocks": [
            {"process": each.name, "ahead": each.ahead_seconds, "measured_at": each.reported_at}
            for each in found.wrong_clocks
        ],
        "rejected_clients": [{"provider": p, "client_id": c, "error": e} for p, c, e in found.rejected],
        "breakers": list(found.breakers.values()),
        "holds": [
            {"provider": hold.provider, "client_id": hold.client_id, "since": hold.opened_at, "held": count}
            for hold, count in found.held.items()
        ],
    }


def _print(found: _Overview, depths: Mapping[str, Depth] | None) -> None:
    print_rich(f"[bold]Connections[/]   {_count_connections(found)}")
    print_rich(f"[bold]Due now[/]       {_count(found.due)}{_age(found.oldest, found.moment)}")
    print_rich(f"[bold]Events[/]        {found.unpublished} unpublished{_age(found.since, found.moment)}")
    for provider, client_id, error in found.rejected:
        text = f"{client_id} by {provider} ({error}). Check its id and secret."
        print_rich(f"[bold red]Rejected[/]      OAuth client {escape(text)}")
    for client in found.breakers:
        for line in describe_breaker(client, found.moment):
            print_rich(f"[bold red]{state_of(client).capitalize():<16}[/]{escape(client.provider)}: {escape(line)}")
    for hold, count in found.held.items():
        print_rich(f"[bold red]Held[/]          {escape(describe_hold(hold, count, found.moment))}")
    for process in found.wrong_clocks:
        text = (
            f"the machine of {process.name} is {describe_offset(process.ahead_seconds)} the database. Synchronize it."
        )
        print_rich(f"[bold red]Clock[/]         {escape(text)}")
    if depths is not None:
        rows = [(name, depth.waiting, depth.under_way, depth.dead) for name, depth in depths.items()]
        print_rich("", make_table(("queue", "waiting", "under way", "dead"), rows))


def _read_depths(settings: Settings) -> tuple[Mapping[str, Depth] | None, CommandFailed | None]:
    """Return the depth of each queue, or the error if Redis does not answer: the rest of the status is shown anyway."""
    try:
        with opened_queues(settings) as queues:
            return queues.depths(), None
    except CommandFailed as failure:
        return None, failure


def _count_connections(found: _Overview) -> str:
    troubled = f" ({_count(found.problems)})" if found.problems else ""
    named = {f"{name}{troubled if name == Status.active else ''}": n for name, n in found.connections.items()}
    return _count(named)


def _count(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def _age(since: datetime | None, moment: datetime) -> str:
    return "" if since is None else f", the oldest for {format_length(max(moment - since, timedelta()))}"


def _seconds(since: datetime | None, moment: datetime) -> float | None:
    return None if since is None else round(max((moment - since).total_seconds(), 0), 3)
