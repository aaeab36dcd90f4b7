"""`breezesync backup check`: whether database, keys and Redis belong together, as after a restore."""

from collections.abc import Iterator
from typing import Any

from config.settings import Settings
from models.health.backup import StreamState, judge_backup_keys, judge_stream
from models.health.finding import Finding
from models.messaging.events import Stream
from models.store import Store
from worker.cli.context import load_settings, opened_queues, opened_store
from worker.cli.doctor import show_finding
from worker.cli.output import AsJson, CommandFailed, print_json, report_errors
from worker.startup import count_uses, find_wrong_keys, known_prefixes, opened_parking

looked_at = 500


@report_errors
def check(as_json: AsJson = False) -> None:
    """Check that database, keys and Redis belong together, before the processes of a restored fleet start."""
    settings = load_settings("keys")
    with opened_store(settings) as store, opened_queues(settings) as queues:
        findings = list(_check(settings, store, queues.client))
    if as_json:
        print_json({"checks": findings})
    else:
        for finding in findings:
            show_finding(finding)
    failures = sum(finding.state == "failed" for finding in findings)
    if failures:
        raise CommandFailed(f"{failures} of {len(findings)} checks failed.")


def _check(settings: Settings, store: Store, client: Any) -> Iterator[Finding]:
    with opened_parking(settings) as parking:
        missing = count_uses(store, parking, known_prefixes(settings))
        yield from judge_backup_keys(missing, find_wrong_keys(store, settings, parking))
    streams: tuple[tuple[Stream, str], ...] = (("events", settings.events_stream), ("records", settings.records_stream))
    for stream, key in streams:
        yield from judge_stream(_compare(store, client, stream, key))


def _compare(store: Store, client: Any, stream: Stream, key: str) -> StreamState:
    """Return what both say. Race: a fleet that runs publishes meanwhile, so the database is asked before and after."""
    with store.reading() as tx:
        newest = tx.outbox.newest_published(stream)
    entries = [fields["id"] for _, fields in client.xrevrange(key, count=looked_at)]
    with store.reading() as tx:
        unknown = set(entries) - tx.outbox.known_ids(entries)
    return StreamState(key, entries, unknown, newest)
