"""What many do at once: one wins, the others learn it, nothing is counted twice."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Barrier
from typing import TypeVar

import fakeredis
import pytest

from models.crypto.secrets import Sealed
from models.crypto.vault import Vault, new_key
from models.errors import StoreConflict
from models.messaging import messages
from models.messaging.events import ConnectionRefreshed
from models.oauth import breaker
from models.oauth.authorization import awaits_user, receive_code
from models.oauth.token_response import Evidence
from models.store import Store
from models.store.due_work import refreshes, syncs
from models.sync.sync_run import RunStatus, SyncRun, end, finish
from models.webhooks.delivery import Delivery
from tests.store.conftest import Opened, add_connection, an_authorization, noon
from worker.gateway.desk import Desk, Done
from worker.provider.rate_limit import Budgets, Settlement

T = TypeVar("T")
AT_ONCE = 8


def all_at_once(opened: Opened, act: Callable[[Store, int], T]) -> list[T]:
    """What each of eight threads got that began together, half of them through another engine."""
    ready = Barrier(AT_ONCE)

    def one(number: int) -> T:
        ready.wait(timeout=30)
        return act(opened.store if number % 2 else opened.other, number)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, range(AT_ONCE)))


def test_a_link_begins_one_authorization(opened: Opened) -> None:
    def begin(store: Store, number: int) -> bool:
        with store.writing() as tx:
            return tx.authorizations.add(an_authorization(f"state-{number}"), "the link")

    assert sorted(all_at_once(opened, begin)) == [False] * (AT_ONCE - 1) + [True]


def test_a_state_is_used_once(opened: Opened) -> None:
    authorization = an_authorization()
    with opened.store.writing() as tx:
        tx.authorizations.add(authorization, "link")

    def use(store: Store, number: int) -> bool:
        with store.writing() as tx:
            found = tx.authorizations.lock(authorization.id)
            if found is None or not awaits_user(found, noon):
                return False
            tx.authorizations.save(receive_code(found, Sealed(f"v1.k1.{number}"), noon))
            return True

    assert sum(all_at_once(opened, use)) == 1


def test_of_writers_who_read_one_generation_one_wins(opened: Opened) -> None:
    connection = add_connection(opened.store, generation=4)

    def write(store: Store, number: int) -> bool:
        with store.writing() as tx:
            return tx.connections.save(replace(connection, generation=5, scope=str(number)), 4)

    assert sum(all_at_once(opened, write)) == 1


def test_a_run_is_begun_by_one(opened: Opened) -> None:
    """Whoever waited for the connection's lock has not seen the run, and is told by the index that there is one."""
    connection = add_connection(opened.store)

    def begin(store: Store, number: int) -> bool:
        with store.writing() as tx:
            found = tx.runs.lock_with_pair(connection.id)
            if found.connection is None or found.run is not None:
                return False
            tx.runs.add(SyncRun(f"run-{number}", connection.id, RunStatus.running, noon))
            return True

    def begin_or_look_again(store: Store, number: int) -> bool:
        try:
            return begin(store, number)
        except StoreConflict:
            return begin(store, number)

    assert sum(all_at_once(opened, begin_or_look_again)) == 1


def test_a_connection_is_not_leased_beside_a_run_that_was_not_seen(opened: Opened) -> None:
    connection = add_connection(opened.store)
    run = SyncRun("r1", connection.id, RunStatus.running, noon, lease_owner="me", lease_until=noon)
    with opened.store.writing() as tx:
        tx.runs.add(run)
    with opened.store.writing() as tx:
        assert tx.runs.lease(replace(run, id="r2")).count == 0
    with opened.store.writing() as tx:
        assert tx.runs.under_way(connection.id) == (run, None)
        tx.runs.save(finish(run, noon))
        assert tx.runs.lease(replace(run, id="r2")).count == 1


def test_a_run_is_begun_by_one_whether_it_is_stored_or_only_leased(opened: Opened) -> None:
    """Whoever waited for the connection's lock sees a lease that was committed meanwhile, but no run."""
    connection = add_connection(opened.store)

    def begin(store: Store, number: int) -> bool:
        run = SyncRun(f"run-{number}", connection.id, RunStatus.running, noon, lease_until=noon + timedelta(seconds=45))
        with store.writing() as tx:
            found = tx.runs.lock_with_pair(connection.id)
            if found.run is not None or found.lease is not None:
                return False
            if number % 4 < 2:
                tx.runs.add(run)
                return True
            return tx.runs.lease(replace(run, lease_owner=f"job-{number}")).count == 1

    def begin_or_look_again(store: Store, number: int) -> bool:
        try:
            return begin(store, number)
        except StoreConflict:
            return begin(store, number)

    assert sum(all_at_once(opened, begin_or_look_again)) == 1


@pytest.mark.parametrize("finishes", [False, True], ids=["it ends in its place", "it finishes, and moves to its day"])
def test_a_locked_run_is_the_newest_one_however_long_its_lock_was_waited_for(opened: Opened, finishes: bool) -> None:
    connection = add_connection(opened.store)
    with opened.store.writing() as tx:
        tx.runs.add(SyncRun("run", connection.id, RunStatus.running, noon))

    def count(store: Store, number: int) -> bool:
        """Count up, and end the run with the sixth."""
        with store.writing() as tx:
            run = tx.runs.lock_with_pair(connection.id).run
            if run is None:
                return False
            counted = replace(run, failures=run.failures + 1)
            ended = finish(counted, noon) if finishes else end(counted, "tested")
            tx.runs.save(counted if counted.failures < 6 else ended)
            return True

    def count_or_look_again(store: Store, number: int) -> bool:
        try:
            return count(store, number)
        except StoreConflict:
            assert finishes
            return count(store, number)

    assert sum(all_at_once(opened, count_or_look_again)) == 6


def test_what_is_due_is_claimed_by_one(opened: Opened) -> None:
    mine = {add_connection(opened.store, f"user-{n}", refresh_due_at=noon).id for n in range(40)}

    def claim(store: Store, number: int) -> list[str]:
        found: list[str] = []
        for _ in range(8):
            with store.writing() as tx:
                batch = tx.due.claim(refreshes, noon, noon + timedelta(minutes=2), 2)
            found += [message.kwargs["connection_id"] for message in batch]
        return found

    claimed = [one for found in all_at_once(opened, claim) for one in found]
    assert len(claimed) == len(set(claimed))
    with opened.store.writing() as tx:
        rest = tx.due.claim(refreshes, noon, noon + timedelta(minutes=2), 100)
    assert set(claimed) | {message.kwargs["connection_id"] for message in rest} == mine


def test_a_sequence_has_neither_gaps_nor_repeats(opened: Opened) -> None:
    connection = add_connection(opened.store)

    def tell(store: Store, number: int) -> None:
        for generation in range(5):
            with store.writing() as tx:
                facts = [ConnectionRefreshed(generation=generation, expires_at=None)] * 2
                tx.outbox.append(connection.about, facts, noon)

    all_at_once(opened, tell)
    with opened.store.reading() as tx:
        events = tx.outbox.read(connection_id=connection.id, limit=1000)
    assert [event.sequence for _, event in events] == list(range(1, AT_ONCE * 10 + 1))


def test_a_refused_client_is_told_of_once(opened: Opened) -> None:
    def reject(store: Store, number: int) -> bool:
        with store.writing() as tx:
            locked = tx.clients.lock("breezedoc", "client-1")
            rejected, facts = breaker.reject(locked, Evidence(error="invalid_client"), noon)
            tx.clients.save(rejected)
            return len(facts) > 0

    assert sum(all_at_once(opened, reject)) == 1


def test_a_budget_is_never_overdrawn(opened: Opened) -> None:
    def take(store: Store, number: int) -> int:
        taken = 0
        for _ in range(5):
            with store.writing() as tx:
                taken += tx.paces.take("breezedoc", 10, "exchange", noon) is None
        return taken

    assert sum(all_at_once(opened, take)) == 10


def test_claims_run_out_and_can_be_given_back(opened: Opened) -> None:
    connection = add_connection(opened.store, sync_due_at=noon)
    later = noon + timedelta(minutes=2)

    def claim(at: object) -> list[str]:
        with opened.store.writing() as tx:
            return [m.kwargs["connection_id"] for m in tx.due.claim(syncs, at, later, 10)]  # type: ignore[arg-type]

    assert [claim(noon), claim(noon), claim(later)] == [[connection.id], [], [connection.id]]
    with opened.store.writing() as tx:
        assert tx.due.void_claims(noon) == 1
    assert claim(noon) == [connection.id]


def test_the_oldest_due_is_sent_first(opened: Opened) -> None:
    ids = [add_connection(opened.store, f"u{n}", refresh_due_at=noon - timedelta(minutes=n)).id for n in range(5)]
    with opened.store.writing() as tx:
        sent = tx.due.claim_refreshes("breezedoc", noon, noon, 3, 100)
    assert [message.kwargs["connection_id"] for message in sent] == [ids[4], ids[3], ids[2]]


def test_publishers_and_an_endpoint_that_is_back_do_not_lock_each_other_out(opened: Opened) -> None:
    later = noon + timedelta(hours=1)
    begun = [
        Delivery(
            webhook_id="w", key=f"c{number:02}", published_from=noon, waits_since=noon, due_at=later, events_from=1
        )
        for number in range(60)
    ]
    with opened.store.writing() as tx:
        tx.webhooks.add_deliveries(begun[::-1])

    def act(store: Store, number: int) -> None:
        for turn in range(5):
            with store.writing() as tx:
                if number in (0, 1):
                    tx.webhooks.wake("w", noon - timedelta(seconds=turn))
                else:
                    tx.webhooks.add_deliveries(begun)

    all_at_once(opened, act)
    with opened.store.reading() as tx:
        assert {each.due_at for each in tx.webhooks.due_deliveries("w", noon, 100)} == {noon - timedelta(seconds=4)}


def test_gateways_whose_calls_wrote_to_the_same_accounts_do_not_lock_each_other_out(opened: Opened) -> None:
    connections = [add_connection(opened.store, f"u{number}") for number in range(20)]
    sent = list[messages.Message]()

    def finish_calls(store: Store, number: int) -> None:
        budgets = Budgets(fakeredis.FakeRedis(server=fakeredis.FakeServer()))
        vault = Vault((new_key("k1"),))
        desk = Desk(store, vault, {opened.profile.name: opened.profile}, budgets, sent.append, lambda: noon)
        done = [Done(each, Settlement(), 0, is_write=True) for each in connections]
        desk.finish(done[::-1] if number % 4 < 2 else done)

    all_at_once(opened, finish_calls)
    assert len(sent) == AT_ONCE * len(connections)
