"""What is lost when a worker dies in the middle of its work, and when Redis forgets everything: nothing."""

import redis

from tests.journey.holding import (
    A_MOMENT_MS,
    FOR_GOOD_MS,
    assert_told_once,
    committed,
    hold,
    is_held,
    let_leases_run_out,
    working,
)
from tests.processes import Fleet, Listener


def flush(fleet: Fleet) -> None:
    with redis.Redis.from_url(fleet.redis_url) as client:
        client.flushall()


def test_a_sync_that_lost_its_worker_is_ended_by_another(fleet: Fleet, listener: Listener) -> None:
    account = fleet.control.add_user("Grete", documents=35, invoices=3)
    held = hold(fleet, account, "/invoices", FOR_GOOD_MS)
    connection = fleet.connect("grete", account)
    fleet.wait_until(lambda: is_held(fleet, held), "the sync waits for the invoices")
    working(fleet).kill()
    let_leases_run_out(fleet, connection)
    fleet.start_worker()
    fleet.has_synced(listener, connection)
    assert_told_once(listener, connection)
    [completed] = listener.about(connection, "sync.")
    assert completed.data["resources"]["document"] == {"created": 35, "updated": 0, "deleted": 0, "unchanged": 0}
    assert completed.data["resources"]["invoice"]["created"] == 3


def test_an_emptied_redis_in_the_middle_of_a_sync_loses_no_event(fleet: Fleet, listener: Listener) -> None:
    account = fleet.control.add_user("Sofia", documents=15, invoices=3)
    held = hold(fleet, account, "/invoices", A_MOMENT_MS)
    connection = fleet.connect("sofia", account)
    fleet.wait_until(lambda: is_held(fleet, held), "the sync waits for the invoices")
    before = committed(fleet, connection)
    fleet.wait_until(lambda: len(listener.about(connection, "record.")) == before, "what was committed is heard")
    flush(fleet)
    fleet.has_synced(listener, connection)
    assert_told_once(listener, connection)
    assert len(listener.about(connection, "record.")) == committed(fleet, connection) > before > 15


def test_an_emptied_redis_loses_no_authorization_on_its_way(fleet: Fleet, listener: Listener) -> None:
    account = fleet.control.add_user("Emmy", documents=2)
    worker = working(fleet)
    fleet.pause(worker)
    result = fleet.consent("emmy", account)
    flush(fleet)
    worker.resume()
    outcome = fleet.outcome(result)
    assert outcome["status"] == "connected"
    fleet.has_synced(listener, outcome["connection_id"])
    assert_told_once(listener, outcome["connection_id"])
