"""`breezesync status`: connections by status, due work, queues and unpublished events."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from rich.markup import escape

from config.settings import Settings
from models.queue import Depth
from worker.cli.context import load_settings, opened_queues, opened_store
from worker.cli.next_steps import describe_breaker, describe_hold
from worker.cli.output import AsJson, CommandFailed, format_length, make_table, print_json, print_rich, report_errors
from worker.cli.provider import describe_client, state_of


@report_errors
def status(as_json: AsJson = False) -> None:
    """Show connections by status, due work, queue depths and event lag."""
    settings = load_settings()
    with opened_store(settings) as store, store.reading() as tx:
        moment = tx.overview.time()
        by_status, due = tx.overview.connections_by_status(), tx.overview.due(moment)
        oldest, rejected = tx.overview.oldest_due(moment), tx.overview.rejected_clients()
        clients = tx.clients.all()
        breakers = [client for client in clients if client.is_open]
        shown = [describe_client(client, tx) for client in breakers]
        held = {hold: tx.refusals.count_held(hold.provider, hold.client_id) for hold in tx.refusals.holds()}
        waiting, since = tx.outbox.backlog()
    depths, failure = _find_depths(settings)
    if as_json:
        print_json(
            {
                "connections": by_status,
                "due": due,
                "oldest_due_seconds": _seconds(oldest, moment),
                "events": {"unpublished": waiting, "lag_seconds": _seconds(since, moment)},
                "queues": depths,
                "rejected_clients": [{"provider": p, "client_id": c, "error": e} for p, c, e in rejected],
                "breakers": shown,
                "holds": [
                    {"provider": hold.provider, "client_id": hold.client_id, "since": hold.opened_at, "held": count}
                    for hold, count in held.items()
                ],
            }
        )
    else:
        print_rich(f"[bold]Connections[/]   {_count(by_status)}")
        print_rich(f"[bold]Due now[/]       {_count(due)}{_age(oldest, moment)}")
        print_rich(f"[bold]Events[/]        {waiting} unpublished{_age(since, moment)}")
        for provider, client_id, error in rejected:
            text = f"{client_id} by {provider} ({error}). Check its id and secret."
            print_rich(f"[bold red]Rejected[/]      OAuth client {escape(text)}")
        for client in breakers:
            for line in describe_breaker(client, moment):
                print_rich(f"[bold red]{state_of(client).capitalize():<16}[/]{escape(client.provider)}: {escape(line)}")
        for hold, count in held.items():
            print_rich(f"[bold red]Held[/]          {escape(describe_hold(hold, count, moment))}")
        if depths is not None:
            rows = [(name, depth.waiting, depth.under_way, depth.dead) for name, depth in depths.items()]
            print_rich("", make_table(("queue", "waiting", "under way", "dead"), rows))
    if failure is not None:
        raise failure


def _find_depths(settings: Settings) -> tuple[Mapping[str, Depth] | None, CommandFailed | None]:
    """Return the queues' depths, or the error if Redis does not answer: the rest of the status is shown anyway."""
    try:
        with opened_queues(settings) as queues:
            return queues.depths(), None
    except CommandFailed as failure:
        return None, failure


def _count(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def _age(since: datetime | None, moment: datetime) -> str:
    return "" if since is None else f", the oldest for {format_length(max(moment - since, timedelta()))}"


def _seconds(since: datetime | None, moment: datetime) -> float | None:
    return None if since is None else round(max((moment - since).total_seconds(), 0), 3)
