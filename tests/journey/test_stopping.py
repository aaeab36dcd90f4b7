"""A fleet stops cleanly: what a process is at is finished or handed back, and it says that it ended well."""

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import update

from models.store.rows import table_of
from models.store.tables import ConnectionRow
from tests.journey.holding import (
    A_MOMENT_MS,
    FOR_GOOD_MS,
    assert_told_once,
    hold,
    is_held,
    let_leases_run_out,
    working,
)
from tests.processes import Fleet, Listener, Program


def replace_worker(fleet: Fleet, grace_ms: int) -> Program:
    """Another worker in the place of the one that runs, with a patience of its own."""
    assert working(fleet).stop() == 0
    return fleet.start_worker(grace_ms=grace_ms)


def let_refresh_be_due(fleet: Fleet, connection_id: str) -> None:
    connections = table_of(ConnectionRow)
    past = datetime.now(UTC) - timedelta(minutes=1)
    fleet.change(update(connections).where(connections.c.id == connection_id).values(refresh_due_at=past))


def wait_for_refreshes(fleet: Fleet, listener: Listener, connection_id: str, count: int) -> None:
    kind = "connection.refreshed"
    fleet.wait_until(lambda: len(listener.about(connection_id, kind)) == count, f"{kind} for the {count}. time")


def child_of(program: Program) -> int:
    """The process that the program has started."""
    [child] = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
    return int(child)


@pytest.fixture(autouse=True)
def one_worker_after_all(fleet: Fleet) -> Iterator[None]:
    """Whatever became of the worker, the next journey finds one."""
    yield
    if not any(program.runs for program in fleet.programs if program.name.startswith("worker")):
        fleet.start_worker()


def test_a_stopping_worker_ends_its_page_and_hands_the_reading_on(fleet: Fleet, listener: Listener) -> None:
    account = fleet.control.add_user("Hertha", documents=12, invoices=3)
    held = hold(fleet, account, "/documents", A_MOMENT_MS)
    connection = fleet.connect("hertha", account)
    fleet.wait_until(lambda: is_held(fleet, held), "the sync waits for the documents")
    assert working(fleet).stop() == 0
    fleet.start_worker()
    fleet.has_synced(listener, connection)
    assert_told_once(listener, connection)
    [completed] = listener.about(connection, "sync.")
    assert completed.data["resources"]["document"]["created"] == 12


def test_what_a_stopping_worker_can_not_finish_is_done_by_another(fleet: Fleet, listener: Listener) -> None:
    worker = replace_worker(fleet, grace_ms=500)
    account = fleet.control.add_user("Lise", documents=12, invoices=3)
    held = hold(fleet, account, "/invoices", FOR_GOOD_MS)
    connection = fleet.connect("lise", account)
    fleet.wait_until(lambda: is_held(fleet, held), "the sync waits for the invoices")
    assert worker.stop() == 0
    let_leases_run_out(fleet, connection)
    fleet.start_worker()
    fleet.has_synced(listener, connection)
    assert_told_once(listener, connection)
    [completed] = listener.about(connection, "sync.")
    assert completed.data["resources"]["invoice"]["created"] == 3


def test_a_stopping_worker_keeps_the_pair_that_it_is_about_to_hear(fleet: Fleet, listener: Listener) -> None:
    account = fleet.control.add_user("Ruth", documents=1)
    connection = fleet.connect("ruth", account)
    let_refresh_be_due(fleet, connection)
    wait_for_refreshes(fleet, listener, connection, 1)
    held = fleet.control.inject(
        on="token",
        moment="after",
        kind="late",
        delay_ms=A_MOMENT_MS,
        match={"grant_type": "refresh_token", "user_id": account},
    )
    let_refresh_be_due(fleet, connection)
    fleet.wait_until(lambda: is_held(fleet, held), "the new pair is on its way")
    assert working(fleet).stop() == 0
    [row] = fleet.rows("SELECT status, generation FROM connection WHERE id = :id", id=connection)
    assert (row.status, row.generation) == ("active", 3)
    own = [token for token in fleet.control.counters()["refresh_tokens"] if token["user_id"] == account]
    spent = [[p["outcome"] for p in token["presentations"] if p["outcome"] != "scope_rejected"] for token in own]
    assert spent == [["rotated"], ["rotated"], []]
    fleet.start_worker()
    wait_for_refreshes(fleet, listener, connection, 2)


def test_a_worker_whose_child_dies_ends_with_an_error_to_be_started_again(fleet: Fleet) -> None:
    worker = working(fleet)
    fleet.connect("lotte", fleet.control.add_user("Lotte", documents=1))
    os.kill(child_of(worker), signal.SIGKILL)
    assert worker.wait() != 0


def test_a_stopping_scheduler_ends_and_the_other_one_sweeps_on(fleet: Fleet, listener: Listener) -> None:
    stopped, _ = [program for program in fleet.programs if program.name.startswith("scheduler") and program.runs]
    assert stopped.stop() == 0
    connection = fleet.connect("marga", fleet.control.add_user("Marga", documents=1))
    fleet.has_synced(listener, connection)
    let_refresh_be_due(fleet, connection)
    wait_for_refreshes(fleet, listener, connection, 1)
    fleet.start_scheduler()


def test_a_stopping_web_process_ends_and_its_successor_takes_over(fleet: Fleet) -> None:
    [web] = [program for program in fleet.programs if program.name.startswith("web") and program.runs]
    with httpx.Client(base_url=fleet.web_url, trust_env=False) as browser:
        assert browser.get("/").status_code == 404
        assert web.stop() in (0, -signal.SIGTERM)
    fleet.start_web()
    fleet.wait_until(fleet.is_ready, "the new web process is ready")
