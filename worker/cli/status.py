"""How the whole of it stands: connections, what is due, queues, events that have not left."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from rich.markup import escape

from config.settings import Settings
from config.wiring import now
from models.queue import Depth
from worker.cli.context import opened_queues, opened_store, settings_for
from worker.cli.explain import tell_length
from worker.cli.output import AsJson, CommandFailed, plainly, say_json, say_rich, tabulate


@plainly
def status(as_json: AsJson = False) -> None:
    """Show connections by status, due work, queue depths and event lag."""
    settings = settings_for()
    moment = now()
    with opened_store(settings) as store, store.reading() as tx:
        by_status, due = tx.overview.connections_by_status(), tx.overview.due(moment)
        oldest, rejected = tx.overview.oldest_due(moment), tx.overview.rejected_clients()
        waiting, since = tx.outbox.backlog()
    depths, trouble = _find_depths(settings)
    if as_json:
        say_json(
            {
                "connections": by_status,
                "due": due,
                "oldest_due_seconds": _seconds(oldest, moment),
                "events": {"unpublished": waiting, "lag_seconds": _seconds(since, moment)},
                "queues": depths,
                "rejected_clients": [{"provider": p, "client_id": c, "error": e} for p, c, e in rejected],
            }
        )
    else:
        say_rich(f"[bold]Connections[/]   {_count(by_status)}")
        say_rich(f"[bold]Due now[/]       {_count(due)}{_age(oldest, moment)}")
        say_rich(f"[bold]Events[/]        {waiting} have not left{_age(since, moment)}")
        for provider, client, error in rejected:
            told = f"{client} of {provider} ({error}): check its id and secret"
            say_rich(f"[bold red]Refused[/]       client {escape(told)}")
        if depths is not None:
            rows = [(name, depth.waiting, depth.under_way, depth.dead) for name, depth in depths.items()]
            say_rich("", tabulate(("queue", "waiting", "under way", "dead"), rows))
    if trouble is not None:
        raise trouble


def _find_depths(settings: Settings) -> tuple[Mapping[str, Depth] | None, CommandFailed | None]:
    """The depths or, where Redis is away, why not: the rest is worth showing then."""
    try:
        with opened_queues(settings) as queues:
            return queues.depths(), None
    except CommandFailed as trouble:
        return None, trouble


def _count(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def _age(since: datetime | None, moment: datetime) -> str:
    return "" if since is None else f", the oldest for {tell_length(max(moment - since, timedelta()))}"


def _seconds(since: datetime | None, moment: datetime) -> float | None:
    return None if since is None else round(max((moment - since).total_seconds(), 0), 3)
