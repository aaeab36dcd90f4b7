"""Tokens under faults: what the provider does wrong, and what must not come of it."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from models.errors import StoreUnavailable
from models.oauth.connection import Connection
from models.oauth.exchange_outcome import CodeRequest
from tests.harness import House
from tests.servers import absent_redis
from worker.oauth.refresh import RefreshRequest
from worker.sync.slice import Slice

SETTLE = 61


def live_families(house: House) -> int:
    return sum(user["families"] for user in house.control.counters()["live"].values())


not_proven_dead: dict[str, dict[str, Any]] = {
    "429": {"moment": "before", "status": 429, "retry_after": 5},
    "503": {"moment": "before", "status": 503},
    "503 with Retry-After": {"moment": "before", "status": 503, "retry_after": 5},
    "500 before the grant": {"moment": "before", "status": 500},
    "HTML": {"moment": "before", "kind": "html"},
    "redirect": {"moment": "before", "kind": "redirect"},
    "reset before the grant": {"moment": "before", "kind": "drop"},
    "garbage": {"moment": "before", "kind": "garbage"},
}


@pytest.mark.parametrize("fault", not_proven_dead)
def test_trouble_before_the_grant_costs_nobody_anything(house: House, fault: str) -> None:
    connection = house.refreshable()
    house.control.inject("token", **not_proven_dead[fault])
    house.flows.refresh(connection.id)
    assert house.connection(connection.id).status == "active"
    for _ in range(4):
        house.turn(seconds=SETTLE)
        house.sweep()
    after = house.connection(connection.id)
    assert (after.status, after.generation, after.problem) == ("active", connection.generation + 1, None)
    assert "connection.reauthorization_required" not in house.types()


lost_pairs: dict[str, dict[str, Any]] = {
    "500 in the middle": {"moment": "middle", "status": 500},
    "reset after the commit": {"moment": "after", "kind": "drop"},
    "cut after the commit": {"moment": "after", "kind": "cut"},
    "500 after the commit": {"moment": "after", "status": 500},
    "garbage after the commit": {"moment": "after", "kind": "garbage"},
}


@pytest.mark.parametrize("fault", lost_pairs)
def test_a_rotation_whose_pair_was_lost_ends_as_that_and_never_as_revoked_by_the_user(house: House, fault: str) -> None:
    connection = house.refreshable()
    house.control.inject("token", **lost_pairs[fault])
    house.flows.refresh(connection.id)
    assert house.connection(connection.id).status == "active"
    house.sweep()
    assert house.connection(connection.id).status == "active", "no one knows before the provider's time is over"
    house.turn(seconds=SETTLE)
    house.sweep()
    after = house.connection(connection.id)
    assert (after.status, after.revoked_reason) == ("revoked", "rotation_lost")
    [event] = house.told("connection.reauthorization_required")
    assert (event["reason"], event["detected_by"]) == ("rotation_lost", "refresh")
    assert house.presentations() == 2, "once more where that is harmless, and then no more"


def test_where_reuse_ends_the_family_a_spent_token_is_not_shown_again(house: House) -> None:
    connection = house.refreshable()
    reuse(house, "family_revoked")
    house.control.inject("token", moment="after", kind="drop")
    house.flows.refresh(connection.id)
    house.turn(seconds=SETTLE)
    house.sweep()
    assert house.connection(connection.id).revoked_reason == "rotation_lost"
    assert house.presentations() == 1


def test_where_reuse_ends_the_family_a_token_proven_unspent_is_shown_again(house: House) -> None:
    connection = house.refreshable()
    reuse(house, "family_revoked")
    house.control.inject("token", moment="before", kind="drop")
    house.flows.refresh(connection.id)
    house.turn(seconds=SETTLE)
    house.sweep()
    assert house.connection(connection.id).generation == connection.generation + 1


def reuse(house: House, mode: str) -> None:
    """Switches provider and profile to the same `refresh_reuse`."""
    client = house.flows.refresh.providers["breezedoc"]
    client.provider = replace(client.provider, refresh_reuse=mode)  # type: ignore[arg-type]
    house.control.set(refresh_reuse=mode)


def test_a_probe_that_tells_nothing_is_repeated_and_decides_nothing(house: House) -> None:
    connection = house.refreshable()
    house.control.inject("token", moment="after", kind="drop")
    house.flows.refresh(connection.id)
    fault = house.control.inject("api", status=500, count=None)
    for _ in range(3):
        house.turn(seconds=SETTLE)
        house.sweep()
    assert house.connection(connection.id).status == "active"
    assert house.presentations() == 1
    house.control.remove_fault(fault)
    house.turn(seconds=SETTLE)
    house.sweep()
    assert house.connection(connection.id).revoked_reason == "rotation_lost"


def test_a_401_for_a_token_that_a_sibling_rotated_meanwhile_means_nothing(house: House) -> None:
    connection = house.connect("ada", 1)
    house.queue.held.clear()
    own = house.flows.sync.take(connection.id)
    assert own is not None
    house.make_refresh_due(connection.id)
    house.flows.refresh(connection.id)
    house.flows.refresh(connection.id)
    assert house.connection(connection.id).generation == 2
    assert house.flows.sync.step(own) is None
    house.sweep()
    assert house.connection(connection.id).generation == 2, "no refresh was forced"
    assert house.types().count("sync.completed") == 1


def refresh_under_way(house: House) -> tuple[Connection, Slice, RefreshRequest]:
    """A connection whose refresh is about to leave while a run is about to read, with the token of before."""
    connection = house.refreshable()
    house.queue.held.clear()
    taken = house.flows.refresh.take(connection.id)
    own = house.flows.sync.take(connection.id)
    assert taken is not None
    assert own is not None
    return connection, own, taken


@pytest.mark.parametrize(("answer", "reason"), [("arrives", "access_revoked"), ("is lost", "rotation_lost")])
def test_a_grant_that_dies_while_a_refresh_is_under_way_is_noticed_soon(house: House, answer: str, reason: str) -> None:
    connection, own, taken = refresh_under_way(house)
    if answer == "is lost":
        house.control.inject("token", moment="after", kind="drop")
    pair = house.flows.refresh.ask(taken)
    house.control.revoke_user(1)
    assert house.flows.sync.step(own) is None, "the old token is refused before the new pair is saved"
    house.flows.refresh.save(taken, pair)
    house.sweep()
    house.turn(seconds=SETTLE)
    house.sweep()
    assert house.connection(connection.id).revoked_reason == reason


def test_a_list_that_is_refused_while_a_refresh_is_under_way_forces_one_more_and_no_other(house: House) -> None:
    connection, own, taken = refresh_under_way(house)
    house.control.inject("api", status=401, count=None, match={"path": "/api/documents"})
    account_read = house.flows.sync.step(own)
    assert account_read is not None
    assert house.flows.sync.step(account_read) is None, "refused"
    house.flows.refresh.save(taken, house.flows.refresh.ask(taken))
    for _ in range(10):
        house.sweep()
        house.turn(seconds=30)
    after = house.connection(connection.id)
    assert (after.status, after.generation) == ("active", connection.generation + 2)


def test_an_api_that_refuses_every_token_revokes_nobody(house: House) -> None:
    connection = house.refreshable()
    house.sweep()
    house.control.inject("api", status=401, count=None)
    for _ in range(6):
        house.turn(minutes=16)
        house.sweep()
    assert house.connection(connection.id).status == "active"
    assert "connection.reauthorization_required" not in house.types()
    assert house.presentations() == 1


def test_both_generations_of_passport_tell_a_dead_grant(house: House) -> None:
    for passport, account, user in ((12, 1, "ada"), (13, 2, "grace")):
        house.control.set(passport=passport)
        connection = house.connect(user, account)
        house.control.revoke_user(account)
        house.make_refresh_due(connection.id)
        house.flows.refresh(connection.id)
        assert house.connection(connection.id).revoked_reason == "refresh_rejected"


def test_an_expired_pair_is_told_as_expired(house: House) -> None:
    house.control.set(access_ttl=60, refresh_ttl=60)
    connection = house.connect("ada", 1)
    house.work()
    house.turn(seconds=100)
    house.sweep()
    assert house.connection(connection.id).revoked_reason == "refresh_expired"


def test_a_new_authorization_during_a_refresh_is_the_newest_truth(house: House) -> None:
    connection = house.refreshable()
    taken = house.flows.refresh.take(connection.id)
    assert taken is not None
    house.connect("ada", 1, connection_id=connection.id)
    newest = house.credential(connection.id)
    house.flows.refresh.save(taken, house.flows.refresh.ask(taken))
    assert house.credential(connection.id) == newest
    assert house.connection(connection.id).generation == connection.generation + 1


def test_a_holder_that_wakes_after_its_lease_sends_nothing(house: House) -> None:
    connection = house.refreshable()
    taken = house.flows.refresh.take(connection.id)
    assert taken is not None
    house.clock.turn(timedelta(seconds=SETTLE))
    called = house.flows.refresh.ask(taken)
    house.flows.refresh.save(taken, called)
    assert house.presentations() == 0


def test_what_we_were_too_slow_to_send_is_sent_a_few_seconds_later_however_often(house: House) -> None:
    connection = house.refreshable()
    for _ in range(5):
        taken = house.flows.refresh.take(connection.id)
        assert taken is not None
        house.turn(seconds=SETTLE)
        house.flows.refresh.save(taken, house.flows.refresh.ask(taken))
        due = house.connection(connection.id).refresh_due_at
        assert due is not None
        assert due - house.clock() <= timedelta(seconds=5)
        house.turn(seconds=6)
    house.sweep()
    assert house.connection(connection.id).generation == connection.generation + 1


def test_a_late_refusal_never_overwrites_a_success(house: House) -> None:
    connection = house.refreshable()
    slow = house.flows.refresh.take(connection.id)
    assert slow is not None
    house.turn(seconds=SETTLE)
    house.sweep()
    assert house.connection(connection.id).generation == connection.generation + 1
    in_time = replace(slow.presentation, send_before=house.clock() + timedelta(minutes=1))
    slow_answer = house.flows.refresh.ask(replace(slow, presentation=in_time))
    house.flows.refresh.save(slow, slow_answer)
    assert house.connection(connection.id).status == "active"


def test_a_pair_that_arrives_after_the_connection_was_given_up_brings_it_back(house: House) -> None:
    connection = house.refreshable()
    taken = house.flows.refresh.take(connection.id)
    assert taken is not None
    late_pair = house.flows.refresh.ask(taken)
    house.turn(seconds=SETTLE)
    house.sweep()
    assert house.connection(connection.id).revoked_reason == "rotation_lost"
    house.flows.refresh.save(taken, late_pair)
    after = house.connection(connection.id)
    assert (after.status, after.generation) == ("active", connection.generation + 1)
    assert house.told("connection.authorized")[-1]["reauthorized"] is True


def test_a_disconnect_during_a_refresh_stands(house: House) -> None:
    connection = house.refreshable()
    taken = house.flows.refresh.take(connection.id)
    assert taken is not None
    house.flows.disconnect(connection.id)
    house.flows.refresh.save(taken, house.flows.refresh.ask(taken))
    assert house.connection(connection.id).status == "disconnected"
    assert house.credential(connection.id).access_token is None


exchange_faults: dict[str, tuple[dict[str, Any], str]] = {
    "maintenance": ({"moment": "before", "status": 503}, "connected"),
    "throttled": ({"moment": "before", "status": 429, "retry_after": 2}, "connected"),
    "reset before the grant": ({"moment": "before", "kind": "drop"}, "connected"),
    "500 before the grant": ({"moment": "before", "status": 500}, "connected"),
    "answer lost after the commit": ({"moment": "after", "kind": "drop"}, "failed"),
    "cut after the commit": ({"moment": "after", "kind": "cut"}, "failed"),
    "503 after the commit": ({"moment": "after", "status": 503}, "failed"),
}


@pytest.mark.parametrize("fault", exchange_faults)
def test_a_code_exchange_survives_what_it_can_and_says_what_it_could_not(house: House, fault: str) -> None:
    injected, expected = exchange_faults[fault]
    house.control.inject("token", **injected)
    authorization_id = house.consent("ada", 1)
    house.work()
    for _ in range(4):
        house.turn(seconds=30)
        house.sweep()
    with house.store.reading() as tx:
        found = tx.authorizations.get(authorization_id)
    assert found is not None
    assert found.step == expected
    if expected == "failed":
        assert [event["reason"] for event in house.told("connection.authorization_failed")] == ["answer_lost"]


def test_an_account_that_cannot_be_asked_yet_is_asked_again_without_spending_the_code_twice(house: House) -> None:
    house.control.inject("api", status=500, count=2)
    authorization_id = house.consent("ada", 1)
    house.work()
    for _ in range(4):
        house.turn(seconds=40)
        house.sweep()
    with house.store.reading() as tx:
        found = tx.authorizations.get(authorization_id)
    assert found is not None
    assert found.step == "connected"
    assert house.control.counters()["max_code_presentations"] == 1


def test_an_authorization_nobody_finishes_expires(house: House) -> None:
    house.callback.begin("breezedoc", house.link("ada"), {})
    house.turn(minutes=11)
    house.sweep()
    assert [event["reason"] for event in house.told("connection.authorization_failed")] == ["expired"]


class Away:
    """A store that can be taken away: every transaction fails while it is."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.away = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def writing(self) -> Any:
        if self.away:
            raise StoreUnavailable("the database is away")
        return self.store.writing()

    def reading(self) -> Any:
        if self.away:
            raise StoreUnavailable("the database is away")
        return self.store.reading()


@pytest.mark.parametrize("lives", ["both", "redis", "spool"])
def test_a_new_pair_waits_wherever_there_is_room_while_the_database_is_away(house: House, lives: str) -> None:
    connection = house.refreshable()
    flow = house.flows.refresh
    taken = flow.take(connection.id)
    assert taken is not None
    called = flow.ask(taken)
    away: Any = Away(house.store)
    away.away = True
    parking = flow.parking
    if lives == "redis":
        parking = replace(parking, spool=Path("/dev/null/nowhere"))
    if lives == "spool":
        parking = replace(parking, redis=absent_redis())
    with pytest.raises(StoreUnavailable):
        replace(flow, store=away, parking=parking).save_or_park(taken, called)
    assert house.connection(connection.id).generation == connection.generation
    take_in = replace(house.flows.recover_tokens, parking=parking)
    with pytest.raises(StoreUnavailable):
        replace(take_in, store=away)()
    assert take_in() == 1
    assert house.connection(connection.id).generation == connection.generation + 1
    assert take_in() == 0
    assert parking.tickets() == []
    assert house.presentations() == 1
    house.flows.sync(connection.id)
    assert house.told("sync.completed") or house.connection(connection.id).status == "active"


def test_a_store_that_cannot_be_written_is_noticed_before_the_token_is_spent(house: House) -> None:
    connection = house.refreshable()
    away: Any = Away(house.store)
    away.away = True
    with pytest.raises(StoreUnavailable):
        replace(house.flows.refresh, store=away)(connection.id)
    assert house.presentations() == 0


def test_an_exchanged_pair_that_could_not_be_written_is_not_lost(house: House) -> None:
    authorization_id = house.consent("ada", 1)
    flow = house.flows.exchange
    taken = flow.load(authorization_id)
    assert taken is not None
    assert isinstance(taken, CodeRequest)
    called = flow.ask(taken)
    away: Any = Away(house.store)
    away.away = True
    with pytest.raises(StoreUnavailable):
        replace(flow, store=away).save(taken, called)
    house.flows.exchange(authorization_id)
    assert house.types() == ["connection.authorized"]
    assert house.control.counters()["max_code_presentations"] == 1


def test_a_stray_grant_of_another_account_is_revoked_where_there_is_an_endpoint(house: House) -> None:
    connection = house.connect("ada", 1)
    house.control.set(revocation_endpoint=True)
    client = house.flows.exchange.providers["breezedoc"]
    client.provider = replace(client.provider, revoke_url=f"{house.provider.url}/oauth/revoke")
    authorization_id = house.consent("ada", 2, connection_id=connection.id)
    house.flows.exchange(authorization_id)
    house.work()
    live = house.control.counters()["live"]
    assert live.get("2", {"refresh_tokens": 0})["refresh_tokens"] == 0
    assert live["1"]["refresh_tokens"] == 1
