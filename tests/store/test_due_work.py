"""One statement finds whatever there is to do: every kind of work, and nothing that is claimed, early or done."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from models.crypto.secrets import Sealed
from models.gateway.call import CallStatus, StoredCall
from models.messaging.events import About, ConnectionRefreshed
from models.oauth.authorization import Step, hash_of
from models.oauth.client import Cause
from models.oauth.connection import Status
from models.oauth.hold import Hold, Refusal
from models.oauth.revocation import Revocation
from models.store import Store, Transaction
from models.store.due_work import Work, kinds, search
from scheduler.sweep import Sweep
from tests.databases import BOTH
from tests.harness import ListQueue
from tests.store.conftest import Opened, a_connection, add_connection, an_authorization, noon

second = timedelta(seconds=1)


def connection(**fields: Any) -> Callable[[Transaction], None]:
    return lambda tx: tx.connections.add(a_connection(id="c1", **fields))


def authorization(**fields: Any) -> Callable[[Transaction], None]:
    return lambda tx: note(tx.authorizations.add(an_authorization(**fields), hash_of(uuid4().hex)))


def note(_: object) -> None:
    """Ignore what a call returns."""


def revocation(tx: Transaction) -> None:
    tx.revocations.add(Revocation("r1", "breezedoc", "client-1", Sealed("v1.k1.x"), noon, noon))


def disconnect(tx: Transaction) -> None:
    connection()(tx)
    tx.connections.request_disconnect("c1", noon, erase=False)


def client(**fields: Any) -> Callable[[Transaction], None]:
    def add(tx: Transaction) -> None:
        tx.clients.save(replace(tx.clients.lock("breezedoc", "client-1"), cause=Cause.unavailable, **fields))

    return add


def refusal(problem: str | None = None, status: Status = Status.active, **fields: Any) -> Callable[[Transaction], None]:
    def add(tx: Transaction) -> None:
        connection(problem=problem, status=status)(tx)
        values: dict[str, Any] = {
            "reason": "refresh_rejected",
            "detected_by": "refresh",
            "evidence": {},
            "refused_at": noon,
        }
        tx.refusals.put(Refusal("c1", "breezedoc", "client-1", 1, **(values | fields)))

    return add


def hold(next_trial_at: datetime) -> Callable[[Transaction], None]:
    return lambda tx: note(tx.refusals.open(Hold("breezedoc", "client-1", noon, False, 0, next_trial_at)))


def call(due_at: datetime | None) -> Callable[[Transaction], None]:
    own = StoredCall(
        id="k1",
        connection_id="c1",
        idempotency_key="one",
        method="POST",
        path="/documents",
        actor="gateway:billing",
        status=CallStatus.pending,
        created_at=noon,
        request=None,
        bodies_until=None,
        due_at=due_at,
    )
    return lambda tx: note(tx.calls.add(own))


def event(tx: Transaction) -> None:
    tx.outbox.append(About("breezedoc", "ada", "c1"), [ConnectionRefreshed(1, None)], noon)


cases: dict[str, tuple[Callable[[Transaction], None], set[Work]]] = {
    "nothing": (lambda tx: None, set()),
    "a connection that rests": (connection(sync_due_at=noon + second, refresh_due_at=noon + second), set()),
    "a sync": (connection(sync_due_at=noon), {Work.syncs}),
    "a refresh": (connection(refresh_due_at=noon), {Work.refreshes}),
    "a disconnect": (disconnect, {Work.disconnects}),
    "a revocation": (revocation, {Work.revocations}),
    "a call": (call(due_at=noon), {Work.calls}),
    "a call, later": (call(due_at=noon + second), set()),
    "a call that has ended": (call(due_at=None), set()),
    "a code": (authorization(due_at=noon), {Work.exchanges}),
    "a code, later": (authorization(due_at=noon + second, expires_at=noon), set()),
    "an authorization that ran out": (authorization(expires_at=noon), {Work.expiry}),
    "an authorization under way": (authorization(expires_at=noon + second), set()),
    "a probe": (client(opened_at=noon, next_probe_at=noon), {Work.probes}),
    "a probe, later": (client(opened_at=noon, next_probe_at=noon + second), set()),
    "a probe of a paused client": (client(opened_at=noon, next_probe_at=noon, paused_at=noon), set()),
    "a held connection that does not say so": (refusal(is_held=True), {Work.held}),
    "a held connection": (refusal(is_held=True, problem="held"), set()),
    "a held connection that has ended": (refusal(is_held=True, status=Status.disconnected), set()),
    "a released connection": (refusal(is_released=True), {Work.released}),
    "a refused connection": (refusal(due_at=noon), set()),
    "a trial": (hold(noon), {Work.trials}),
    "a trial, later": (hold(noon + second), set()),
    "an event": (event, {Work.events}),
}


@pytest.mark.parametrize("case", cases)
def test_a_look_finds_what_there_is_to_do(store: Store, case: str) -> None:
    add, expected = cases[case]
    with store.writing() as tx:
        add(tx)
    with store.reading() as tx:
        assert tx.due.look(noon) == expected


@pytest.mark.parametrize("case", ["a sync", "a refresh", "a disconnect", "a revocation", "a code", "a probe"])
def test_what_is_claimed_is_not_found_until_the_claim_runs_out_or_is_given_back(store: Store, case: str) -> None:
    add, [work] = cases[case]
    claims = {kind.work: kind for kind in kinds}
    with store.writing() as tx:
        add(tx)
        if work in claims:
            claimed = tx.due.claim(claims[work], noon, noon + second, 10)
        else:
            claimed = tx.clients.claim_probes("breezedoc", noon, noon + second)
        assert len(claimed) == 1
    with store.writing() as tx:
        assert tx.due.look(noon) == set()
        assert tx.due.look(noon + second) == {work}
        tx.due.give_back(claimed)
        assert tx.due.look(noon) == {work}


def test_a_published_event_is_not_found(store: Store) -> None:
    with store.writing() as tx:
        event(tx)
        [(position, _)] = tx.outbox.unpublished(["events"], 10)
        tx.outbox.lease("a publisher", noon, noon, [position])
        assert tx.due.look(noon) == set()


@pytest.mark.parametrize("database", ["sqlite"])
def test_a_sweep_that_finds_nothing_is_one_statement_that_reads(opened: Opened) -> None:
    add_connection(opened.store, sync_due_at=noon + second)
    sweep = Sweep(opened.store, ListQueue(), lambda: noon, {"breezedoc": 60, "second": 60})
    statements: list[str] = []
    with opened.store.engine.connect() as sql:
        driver: Any = sql.connection.driver_connection
    driver.set_trace_callback(statements.append)
    assert sweep() == 0
    asked = [each for each in statements if not each.startswith("PRAGMA")]
    assert [each.split()[0] for each in asked] == ["BEGIN", "SELECT", "COMMIT"]


@pytest.mark.parametrize("database", [BOTH[1]])
@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
def test_a_look_reads_no_table_from_end_to_end(opened: Opened, mode: str) -> None:
    with opened.store.writing() as tx:
        for number in range(300):
            fields: dict[str, Any] = {"sync_due_at": noon + number * second, "refresh_due_at": noon + number * second}
            tx.connections.add(a_connection(account=str(number), **fields))
            ended = an_authorization(str(number), step=Step.connected)
            tx.authorizations.add(ended, hash_of(str(number)))
            event(tx)
            tx.outbox.lease("a publisher", noon, noon, [number + 1])
    with opened.store.engine.connect() as sql:
        sql.execute(text("ANALYZE"))
        sql.execute(text(f"SET LOCAL plan_cache_mode = {mode}"))
        look: Any = search.prepare("postgresql")
        driver: Any = sql.connection.driver_connection
        driver.execute(f"PREPARE looking AS {look.text}")
        values = ", ".join(f"'{value}'" for value in look.parameters({"now": noon}))
        plan = "\n".join(line for (line,) in driver.execute(f"EXPLAIN EXECUTE looking({values})"))
    for table in ("connection", '"authorization"', "event"):
        assert f"Seq Scan on {table}" not in plan, plan
