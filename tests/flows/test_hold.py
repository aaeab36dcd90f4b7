"""A server that refuses many at once: no one is told, nothing is erased, and all goes on when it is back."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event

from models.oauth.connection import Connection, Status
from models.store import Store
from scheduler.sweep import Sweep
from tests.flows.test_breaker import pass_time
from tests.flows.test_client_trouble import connect_many, statuses, stop_syncs
from tests.harness import House
from worker.oauth.hold import HoldByOperator


def rekeyed(house: House, connections: int) -> list[Connection]:
    """Connections of a server that has just lost its keys; more than two refusals of one client are many."""
    found = connect_many(house, connections)
    client = house.flows.refresh.providers["breezedoc"]
    client.provider = house.profile = replace(client.provider, mass_refusal_count=2, mass_refusal_share=0.1)
    house.control.replace_keys()
    return found


def problems(house: House, connections: Sequence[Connection]) -> list[str | None]:
    return [house.connection(each.id).problem for each in connections]


@pytest.mark.parametrize("passport", [12, 13])
def test_a_rekeyed_server_ends_nobody_and_one_connection_tries_for_all(house: House, passport: int) -> None:
    house.control.set(passport=passport)
    connections = rekeyed(house, 6)
    pass_time(house, 60)
    assert set(problems(house, connections)) == {"held"}
    [event] = house.told("provider.mass_refusal")
    assert (event["client_id"], event["decision"], event["refused"]) == ("sandbox-client", "held", 3)
    house.control.reset_counters()
    pass_time(house, 3600, step=30)
    shown = sum(len(token["presentations"]) for token in house.control.counters()["refresh_tokens"])
    assert 4 <= shown <= 9, "one at a time, ever more slowly"
    assert statuses(house, connections) == {"active"}
    house.control.restore_keys()
    pass_time(house, 1200, step=30)
    assert [house.connection(each.id).generation for each in connections] == [2] * 6
    assert set(problems(house, connections)) == {None}
    assert [event["decision"] for event in house.told("provider.mass_refusal_ended")] == ["recovered"]
    assert house.told("connection.reauthorization_required") == []


def test_a_held_connection_that_has_ended_keeps_no_other_from_being_tried(house: House) -> None:
    connections = rekeyed(house, 6)
    pass_time(house, 60)
    with house.store.writing() as tx:  # as after a disconnect by an older version, which left its refusal behind
        for each in connections[:5]:
            found = tx.connections.lock(each.id)
            assert found is not None
            tx.connections.save(replace(found, status=Status.disconnected), found.generation)
    house.control.restore_keys()
    pass_time(house, 1200, step=30)
    assert house.connection(connections[5].id).generation == 2


def test_a_token_that_the_server_can_not_read_is_tried_once_more_and_never_called_revoked(house: House) -> None:
    [connection] = connect_many(house, 1)
    house.control.replace_keys()
    house.sweep()
    assert problems(house, [connection]) == ["refused"]
    assert house.credential(connection.id).refresh_token is not None
    pass_time(house, 840, step=60)
    assert house.told("connection.reauthorization_required") == []
    pass_time(house, 180, step=30)
    [event] = house.told("connection.reauthorization_required")
    assert event["reason"] == "refresh_rejected"
    assert house.presentations() == 2


@contextmanager
def between_the_two_writes(house: House, act: Callable[[], object]) -> Iterator[None]:
    """Do `act` once, while a hold is ended: when it is deleted, but its refusals are not released."""
    left = [act]

    def look(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if left and statement.startswith("UPDATE refusal"):
            left.pop()()

    event.listen(house.store.engine, "before_cursor_execute", look)
    yield
    event.remove(house.store.engine, "before_cursor_execute", look)
    assert left == []


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_sweep_that_finds_a_trial_due_waits_for_no_one_who_ends_the_hold(house: House) -> None:
    rekeyed(house, 6)
    pass_time(house, 60)
    house.turn(hours=1)
    sweep = Sweep(house.store, house.queue, house.clock, {"breezedoc": house.profile.token_requests_per_minute})
    with between_the_two_writes(house, sweep):
        assert HoldByOperator(house.store, house.profile).release("sandbox-client") == 6
    assert [told["decision"] for told in house.told("provider.mass_refusal_ended")] == ["released"]
    with house.store.reading() as tx:
        assert tx.refusals.holds() == []


def test_what_is_still_refused_after_the_hold_is_told(house: House) -> None:
    connections = rekeyed(house, 6)
    pass_time(house, 60)
    account = int(connections[0].account_id)
    house.control.restore_keys()
    house.control.revoke_user(account)
    HoldByOperator(house.store, house.profile).release("sandbox-client")
    pass_time(house, 1500, step=30)
    told = {event["connection_id"] for event in house.told("connection.reauthorization_required")}
    of_account = {each.id for each in connections if int(each.account_id) == account}
    assert told <= of_account
    assert all(house.connection(each.id).generation == 2 for each in connections if each.id not in of_account)


def test_a_held_connection_that_is_authorized_again_is_held_no_more(house: House) -> None:
    connections = rekeyed(house, 6)
    pass_time(house, 60)
    again, gone = connections[0], connections[1]
    house.connect("user 0", int(again.account_id), connection_id=again.id)
    house.queue.held.clear()
    stop_syncs(house)
    house.flows.disconnect(gone.id)
    with house.store.reading() as tx:
        held = {refusal.connection_id for refusal in tx.refusals.held("breezedoc", "sandbox-client", 100)}
    assert held == {each.id for each in connections[2:]}
    assert house.connection(again.id).problem is None
    assert house.told("provider.mass_refusal_ended") == []


def test_an_operator_s_hold_ends_only_by_an_operator(house: House) -> None:
    [connection] = connect_many(house, 1)
    operator = HoldByOperator(house.store, house.profile)
    assert operator.hold("sandbox-client") == 0
    house.control.replace_keys()
    house.sweep()
    assert problems(house, [connection]) == ["held"]
    house.control.restore_keys()
    pass_time(house, 180)
    assert house.connection(connection.id).generation == 2, "one that turns out good is good"
    assert house.told("provider.mass_refusal_ended") == []
    assert operator.release("sandbox-client") == 0
    assert [event["decision"] for event in house.told("provider.mass_refusal_ended")] == ["released"]
    assert operator.release("sandbox-client") is None


@dataclass
class Interrupted:
    """The store, with something that another operator does before the nth transaction that writes."""

    store: Store
    before: int
    act: Callable[[], object]
    begun: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def writing(self) -> Any:
        self.begun += 1
        if self.begun == self.before:
            self.act()
        return self.store.writing()


interruptions: dict[str, tuple[int, list[str], list[str]]] = {
    "released before all were ended": (3, ["release"], ["released"]),
    "released when all were ended": (7, ["release"], ["released"]),
    "accepted by another when all were ended": (7, ["accept"], ["accepted"]),
    "ended, and begun once more": (7, ["release", "hold"], ["released"]),
}


@pytest.mark.parametrize("case", interruptions)
def test_a_hold_that_ends_while_it_is_accepted_ends_once_and_what_was_ended_is_counted(house: House, case: str) -> None:
    before, doing, ends = interruptions[case]
    connections = rekeyed(house, 6)
    pass_time(house, 60)
    another = HoldByOperator(house.store, house.profile)

    def act() -> None:
        for each in doing:
            getattr(another, each)("sandbox-client")

    store: Any = Interrupted(house.store, before, act)
    accepted = HoldByOperator(store, house.profile).accept("sandbox-client")
    ended = [house.connection(each.id).status.value for each in connections].count("revoked")
    assert accepted == ended == before - 1
    assert [told["decision"] for told in house.told("provider.mass_refusal_ended")] == ends
    with house.store.reading() as tx:
        assert [hold.by_operator for hold in tx.refusals.holds()] == [True] * doing.count("hold")


def test_two_of_many_that_revoke_are_told_at_once(house: House) -> None:
    connections = connect_many(house, 4)
    house.control.revoke_user(1)
    house.sweep()
    told = {event["connection_id"] for event in house.told("connection.reauthorization_required")}
    assert told == {each.id for each in connections if each.account_id == "1"}
    assert house.clock.ahead < timedelta(minutes=1)
