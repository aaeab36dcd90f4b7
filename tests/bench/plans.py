"""What the scheduler's statements cost in a large database: `python -m tests.bench.plans --rows 10000000 --json FILE`.

Fills a PostgreSQL of its own, runs what the scheduler, `status` and metrics run, and prints for each statement its
time, the pages it read, and the tables that it scanned from end to end.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Engine, event, text

from models.store import Store
from models.store.transaction import Transaction
from scheduler.audit_chain import AuditChain
from scheduler.prune import Prune
from scheduler.sweep import Sweep
from tests.bench.processes import describe_run
from tests.bench.rows import add_connections, add_history
from tests.bench.world import DURABLE
from tests.databases import open_fast_engine, prepare_database
from tests.harness import ListQueue
from tests.servers import Postgres, own_postgres, postgres_user

EXPLAIN = {
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_format": "json",
    "client_min_messages": "log",
}
MANY = 10_000
"""A plan that looks at more rows than this to return fewer is one that grows with the table."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How one statement went.

    what: who ran it. query: its beginning. ms: how long it took. pages: of 8 KB, read from memory or disk.
    scans: the tables that were read from end to end, and the indexes of which more than `MANY` entries were read.
    """

    what: str
    query: str
    ms: float
    pages: int
    scans: tuple[str, ...]


def read_plan(what: str, notice: str) -> Plan | None:
    """Return the plan in a notice of auto_explain; None if it is about something else."""
    heading, found, document = notice.partition("plan:")
    if not found:
        return None
    plan = json.loads(document)
    ms = float(heading.split("duration: ")[1].split(" ")[0])
    root = plan["Plan"]
    pages = root.get("Shared Hit Blocks", 0) + root.get("Shared Read Blocks", 0)
    query = " ".join(plan["Query Text"].split())
    return Plan(what, query[:160], ms, pages, tuple(dict.fromkeys(scans_of(root))))


def scans_of(node: Mapping[str, Any]) -> Iterator[str]:
    """Return what this node and those below it read from end to end, or nearly."""
    read = rows_read(node)
    if node["Node Type"] == "Seq Scan" and read > MANY:
        yield f"{node['Relation Name']} ({read:,.0f} rows)"
    elif "Index Name" in node and read > MANY:
        yield f"{node['Index Name']} ({read:,.0f} entries)"
    for child in node.get("Plans", ()):
        yield from scans_of(child)


def rows_read(node: Mapping[str, Any]) -> float:
    dropped = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return float((node.get("Actual Rows", 0) + dropped) * node.get("Actual Loops", 0))


class Recorder:
    """Collects the plans of every statement on an engine's connections."""

    def __init__(self, engine: Engine) -> None:
        self.what, self.plans = "", list[Plan]()
        event.listen(engine, "connect", self._explain)

    def _explain(self, connection: "psycopg.Connection[Any]", _: object) -> None:
        connection.add_notice_handler(self._note)
        connection.execute("LOAD 'auto_explain'")
        for name, value in EXPLAIN.items():
            connection.execute(f"SET {name} = '{value}'".encode())
        connection.commit()

    def _note(self, notice: psycopg.errors.Diagnostic) -> None:
        plan = read_plan(self.what, notice.message_primary or "")
        if plan is not None and self.what:
            self.plans.append(plan)


def run_everything(store: Store, recorder: Recorder) -> None:
    """Run each job of the scheduler with work and without, and what counts over the whole database."""
    queue = ListQueue()
    sweep = Sweep(store, queue, lambda: datetime.now(UTC), {"breezedoc": 60_000})
    later = datetime.now(UTC) + timedelta(days=2)

    def run(what: str, job: Callable[[], object]) -> None:
        print(f"{datetime.now(UTC):%H:%M:%S} {what}", file=sys.stderr, flush=True)
        recorder.what = what
        job()
        recorder.what = ""

    run("a pass with nothing due", sweep)
    with store.writing() as tx:
        for column in ("sync_due_at", "refresh_due_at", "disconnect_due_at"):
            tx.sql.execute(text(f"UPDATE connection SET {column} = now() WHERE id IN ({DUE_IDS})"))
    run("a pass with much due", sweep)
    run("void_claims", lambda: in_transaction(store, void_claims))
    for name in ("connections_by_status", "authorizations_waiting", "rejected_clients"):
        run(f"overview.{name}", lambda name=name: in_transaction(store, lambda tx: getattr(tx.overview, name)()))  # type: ignore[misc]
    for name in ("due", "oldest_due"):
        run(
            f"overview.{name}",
            lambda name=name: in_transaction(store, lambda tx: getattr(tx.overview, name)(datetime.now(UTC))),  # type: ignore[misc]
        )
    run("prune, a day later", Prune(store, lambda: later))
    run("the audit's chain", AuditChain(store, lambda: datetime.now(UTC)))


DUE_IDS = "SELECT md5((9 * g)::text) FROM generate_series(1, 1000) g"


def void_claims(tx: Transaction) -> object:
    return tx.due.void_claims(datetime.now(UTC))


def in_transaction(store: Store, work: Callable[[Transaction], object]) -> None:
    with store.writing() as tx:
        work(tx)


@contextmanager
def filled_store(rows: int) -> Iterator[tuple[Store, Recorder]]:
    with own_postgres(postgres_user(), **DURABLE | {"jit": "off"}) as server:
        url = Postgres(server.url).create_database()
        prepare_database(url)
        add_connections(url, rows)
        add_history(url, rows, max(rows // 10, 1_000))
        engine = open_fast_engine(url)
        recorder = Recorder(engine)
        yield Store(engine), recorder
        engine.dispose()


def slowest_by_query(plans: Sequence[Plan]) -> list[Plan]:
    """Return each statement of each job once, as it was when it took longest."""
    slowest: dict[tuple[str, str], Plan] = {}
    for plan in plans:
        key = plan.what, plan.query
        if key not in slowest or slowest[key].ms < plan.ms:
            slowest[key] = plan
    return list(slowest.values())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.plans", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--json", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    with filled_store(chosen.rows) as (store, recorder):
        run_everything(store, recorder)
    plans = slowest_by_query(recorder.plans)
    for plan in plans:
        scanned = f" SCANS {', '.join(plan.scans)}" if plan.scans else ""
        print(f"{plan.what}: {plan.ms:.1f} ms, {plan.pages} pages{scanned}: {plan.query[:110]}")
    if chosen.json is not None:
        document = {**describe_run("tests.bench.plans"), "rows": chosen.rows, "plans": [asdict(plan) for plan in plans]}
        chosen.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
