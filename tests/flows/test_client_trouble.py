"""Trouble with our own OAuth client: it pauses that client's refreshes, and is never held against a user."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import text

from models.crypto.secrets import Sealed, Secret
from models.messaging import messages
from models.oauth.breaker import reject as reject_client
from models.oauth.client import OAuthClient, StoredClient
from models.oauth.connection import Connection
from models.oauth.token_pair import TokenPair
from models.oauth.token_response import Evidence
from scheduler.sweep import Sweep
from tests.databases import both_databases
from tests.harness import House, join_house

MakeHouse = Callable[..., House]

refusals: dict[str, dict[str, Any]] = {
    "invalid_client": {"status": 401, "body": '{"error": "invalid_client"}'},
    "unauthorized_client": {"status": 400, "body": '{"error": "unauthorized_client"}'},
    "invalid_scope": {"status": 400, "body": '{"error": "invalid_scope"}'},
    "http_404": {"status": 404, "body": "<html>Not Found</html>"},
    "http_405": {"status": 405, "body": "<html>Method Not Allowed</html>"},
}


def connect_many(house: House, count: int = 5) -> list[Connection]:
    """Connections whose client has learned to leave the scope out, their refreshes due in this order."""
    connections = [house.connect(f"user {n}", 1 + n % 2) for n in range(count)]
    with house.store.writing() as tx:
        tx.clients.save(replace(tx.clients.lock("breezedoc", "sandbox-client"), omit_refresh_scope=True))
    house.queue.held.clear()
    stop_syncs(house)
    for connection in connections:
        house.make_refresh_due(connection.id)
    house.control.reset_counters()
    return [house.connection(each.id) for each in connections]


def stop_syncs(house: House) -> None:
    with house.store.writing() as tx:
        tx.sql.execute(text("UPDATE connection SET sync_due_at = NULL"))


def refuse(house: House, refusal: str, client_id: str = "sandbox-client") -> int:
    return house.control.inject(
        "token", kind="garbage", count=None, match={"client_id": client_id}, **refusals[refusal]
    )


def asked(house: House) -> int:
    return sum(house.control.counters(tokens=False)["token_requests"].values())


def shown(house: House) -> int:
    """How many refresh tokens the provider has seen."""
    return sum(bool(token["presentations"]) for token in house.control.counters()["refresh_tokens"])


def client(house: House, client_id: str = "sandbox-client") -> StoredClient:
    with house.store.reading() as tx:
        found = tx.clients.get("breezedoc", client_id)
    assert found is not None
    return found


@pytest.fixture
def rotated(house: House) -> Iterator[MakeHouse]:
    """Makes another process whose settings name these clients, the first of them for new authorizations."""
    made = []

    def make(*client_ids: str) -> House:
        configured = tuple(
            OAuthClient(
                provider="breezedoc",
                client_id=each,
                client_secret=Secret(each.replace("client", "secret")),
                redirect_uri=house.provider.redirect_uri,
            )
            for each in client_ids
        )
        other = join_house(
            house.store, house.provider, house.profile, house.vault, house.clock, house.spool, configured=configured
        )
        made.append(other)
        return other

    yield make
    for other in made:
        for provider in other.flows.refresh.providers.values():
            provider.close()


def sweep(house: House) -> int:
    """One sweep and its work; how many refreshes were sent."""
    Sweep(house.store, house.queue, house.clock, {"breezedoc": house.profile.token_requests_per_minute})()
    sent = sum(message.actor == "carry_out_refresh" for message in house.queue.held)
    house.work()
    return sent


def statuses(house: House, connections: Sequence[Connection]) -> set[str]:
    return {house.connection(each.id).status.value for each in connections}


@both_databases
@pytest.mark.parametrize("refusal", refusals)
def test_a_refused_client_pauses_is_probed_at_growing_intervals_and_recovers(house: House, refusal: str) -> None:
    connections = connect_many(house)
    fault = refuse(house, refusal)
    sent, tried_at = 0, []
    began = house.clock()
    for _ in range(45):
        before = asked(house)
        sent += sweep(house)
        if asked(house) > before:
            assert asked(house) == before + 1, "one probe is sent for all"
            tried_at.append((house.clock() - began).total_seconds())
        house.turn(seconds=31)
    pauses = [later - earlier for earlier, later in pairwise(tried_at)]
    for pause, least in zip(pauses, (30, 60, 300, 900), strict=False):
        assert least <= pause < least + 40
    assert len(tried_at) == 5
    assert sent == len(connections), "nothing is sent in a loop"
    assert shown(house) == 1, "and no other token leaves before a probe has shown that it may"
    assert [event["error"] for event in house.told("provider.client_rejected")] == [refusal]
    assert statuses(house, connections) == {"active"}
    house.control.remove_fault(fault)
    for _ in range(6):
        house.turn(minutes=5)
        house.sweep()
    assert [event["error"] for event in house.told("provider.client_recovered")] == [refusal]
    assert [house.connection(each.id).generation for each in connections] == [2] * len(connections)
    assert len(house.told("provider.client_rejected")) == 1
    assert house.told("connection.reauthorization_required") == []


def test_those_that_waited_for_their_client_keep_their_place_in_line(house: House) -> None:
    connections = connect_many(house)
    fault = refuse(house, "invalid_client")
    house.sweep()
    due = [house.connection(each.id).refresh_due_at for each in connections]
    assert due[1:] == [each.refresh_due_at for each in connections[1:]]
    house.control.remove_fault(fault)
    for _ in range(10):
        house.turn(seconds=10)
        house.sweep()
    order = [event["connection_id"] for event in house.told("connection.refreshed")]
    assert order == [each.id for each in (*connections[1:], connections[0])]


def test_one_client_goes_on_while_the_other_of_the_same_provider_is_refused(house: House, rotated: MakeHouse) -> None:
    old = connect_many(house, 2)
    house.control.add_client("second-client", "second-secret")
    second = rotated("second-client")
    new = second.connect("grace", 3)
    stop_syncs(house)
    second.make_refresh_due(new.id)
    house.control.delete_client("sandbox-client")
    for _ in range(3):
        second.sweep()
        second.turn(seconds=1)
    assert second.connection(new.id).generation == 2
    assert statuses(house, [*old, new]) == {"active"}
    assert [event["client_id"] for event in house.told("provider.client_rejected")] == ["sandbox-client"]
    assert (client(house).is_rejected, client(house, "second-client").is_rejected) == (True, False)


def test_a_client_is_rotated_by_changing_the_settings(house: House, rotated: MakeHouse) -> None:
    [old] = connect_many(house, 1)
    house.control.add_client("second-client", "second-secret")
    second = rotated("second-client")
    new = second.connect("grace", 2)
    for connection in (old, new):
        second.make_refresh_due(connection.id)
        second.flows.refresh(connection.id)
        second.work()
    assert [second.connection(each.id).client_id for each in (old, new)] == ["sandbox-client", "second-client"]
    assert [second.connection(each.id).generation for each in (old, new)] == [2, 2]
    again = second.connect("user 0", 1, connection_id=old.id)
    assert (again.id, again.client_id, again.generation) == (old.id, "second-client", 3)
    house.control.delete_client("sandbox-client")
    second.make_refresh_due(old.id)
    second.sweep()
    assert second.connection(old.id).generation == 4, "nothing of the first client is needed any more"


def test_a_code_promised_to_the_retired_client_is_exchanged_as_that_client(house: House, rotated: MakeHouse) -> None:
    house.flows.refresh.clients.keep_secrets()
    authorization_id = house.consent("ada", 1)
    house.control.add_client("second-client", "second-secret")
    second = rotated("second-client")
    second.flows.exchange(authorization_id)
    [event] = house.told("connection.authorized")
    assert house.connection(event["connection_id"]).client_id == "sandbox-client"


def test_a_secret_is_kept_sealed_before_anything_was_exchanged_with_it(house: House, rotated: MakeHouse) -> None:
    house.flows.refresh.clients.keep_secrets()
    with house.store.reading() as tx:
        [stored] = tx.sql.execute(text("SELECT secret FROM client")).scalars().all()
    assert stored.startswith("v1.")
    assert "sandbox-secret" not in stored
    found = rotated("second-client").flows.refresh.clients.find("breezedoc", "sandbox-client")
    assert found.client_secret == Secret("sandbox-secret")


def test_a_mistyped_secret_never_takes_the_place_of_one_that_proved_good(house: House, rotated: MakeHouse) -> None:
    connect_many(house, 1)
    mistaken = replace(house.flows.refresh.clients.configured[0], client_secret=Secret("mistyped"))
    replace(house.flows.refresh.clients, configured=(mistaken,)).keep_secrets()
    found = rotated("second-client").flows.refresh.clients.find("breezedoc", "sandbox-client")
    assert found.client_secret == Secret("sandbox-secret")


def test_a_changed_secret_is_kept_as_soon_as_it_proves_good(house: House, rotated: MakeHouse) -> None:
    [connection] = connect_many(house, 1)
    house.control.change_client("sandbox-client", client_secret="changed")
    changed = replace(house.flows.refresh.clients.configured[0], client_secret=Secret("changed"))
    book = replace(house.flows.refresh.clients, configured=(changed,))
    replace(house.flows.refresh, clients=book)(connection.id)
    assert house.connection(connection.id).generation == 2
    found = rotated("second-client").flows.refresh.clients.find("breezedoc", "sandbox-client")
    assert found.client_secret == Secret("changed")


def test_a_client_whose_secret_nobody_knows_spends_nothing_until_it_is_put_back(
    house: House, rotated: MakeHouse
) -> None:
    [connection] = connect_many(house, 1)
    with house.store.writing() as tx:
        tx.clients.save(replace(tx.clients.lock("breezedoc", "sandbox-client"), secret=None))
    second = rotated("second-client")
    for _ in range(5):
        second.sweep()
        second.turn(seconds=40)
    assert asked(house) == 0
    assert house.credential(connection.id).presented_at is None
    assert [event["error"] for event in house.told("provider.client_rejected")] == ["client_unknown"]
    put_back = rotated("second-client", "sandbox-client")
    for _ in range(3):
        put_back.turn(minutes=20)
        put_back.sweep()
    assert put_back.connection(connection.id).generation >= 2
    assert len(house.told("provider.client_recovered")) == 1


def test_a_kept_secret_that_does_not_open_is_the_clients_trouble_and_no_users(house: House, rotated: MakeHouse) -> None:
    [connection] = connect_many(house, 1)
    with house.store.writing() as tx:
        broken = Sealed("v1.k1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
        tx.clients.save(replace(tx.clients.lock("breezedoc", "sandbox-client"), secret=broken))
    rotated("second-client").sweep()
    assert house.connection(connection.id).problem == "client_unknown"
    assert [event["error"] for event in house.told("provider.client_rejected")] == ["client_unknown"]
    assert house.presentations() == 0


@both_databases
def test_a_pair_won_before_the_refusal_and_heard_of_after_it_ends_no_pause(house: House) -> None:
    early, late = connect_many(house, 2)
    won = house.flows.refresh.take(early.id)
    assert won is not None
    called = house.flows.refresh.ask(won)
    house.flows.recover_tokens.parking.park(won.ticket, TokenPair(called.outcome, house.clock()))  # type: ignore[arg-type]
    house.turn(seconds=1)
    house.control.inject("token", kind="garbage", status=401, body='{"error": "invalid_client"}')
    house.flows.refresh(late.id)
    house.turn(seconds=1)
    assert house.flows.recover_tokens() == 1
    with house.store.reading() as tx:
        stored = tx.clients.get("breezedoc", "sandbox-client")
    assert stored is not None
    assert stored.is_rejected
    assert house.told("provider.client_recovered") == []


def test_a_refused_client_is_probed_also_where_the_others_keep_the_budget_busy(house: House) -> None:
    refused, *others = connect_many(house, 12)
    with house.store.writing() as tx:
        stored = tx.clients.lock("breezedoc", "other-client")
        rejected, _ = reject_client(stored, Evidence(error="invalid_client"), house.clock() - timedelta(minutes=1))
        tx.clients.save(rejected)
        found = tx.connections.lock(refused.id)
        assert found is not None
        tx.connections.save(replace(found, client_id="other-client", refresh_due_at=house.clock()), found.generation)
    Sweep(house.store, house.queue, house.clock, {"breezedoc": 3})()
    probe, *refreshes = [each for each in house.queue.held if each.actor in ("probe_client", "carry_out_refresh")]
    assert probe == messages.probe_client("breezedoc", "other-client")
    assert {each.kwargs["connection_id"] for each in refreshes} < {other.id for other in others}


@both_databases
def test_siblings_on_their_way_when_the_client_breaks_do_not_lengthen_its_pause(house: House) -> None:
    connections = connect_many(house, 4)
    taken = [house.flows.refresh.take(each.id) for each in connections]
    house.control.change_client("sandbox-client", client_secret="another")
    for each in taken:
        assert each is not None
        house.flows.refresh.save(each, house.flows.refresh.ask(each))
    stored = client(house)
    assert stored.probes == 1
    assert stored.opened_at is not None
    assert stored.next_probe_at is not None
    assert (stored.next_probe_at - stored.opened_at).total_seconds() == 30
    assert len(house.told("provider.client_rejected")) == 1
    assert house.presentations() == 1


@both_databases
def test_a_probe_whose_worker_died_is_followed_by_another(house: House) -> None:
    connections = connect_many(house, 2)
    fault = refuse(house, "invalid_client")
    house.sweep()
    house.control.remove_fault(fault)
    house.turn(seconds=31)
    assert house.flows.probe_client.begin("breezedoc", "sandbox-client") is not None, "and its worker is killed here"
    before = asked(house)
    house.sweep()
    assert asked(house) == before
    house.turn(seconds=35)
    house.sweep()
    house.sweep()
    assert house.connection(connections[0].id).generation == 2
    assert len(house.told("provider.client_recovered")) == 1


def test_a_refused_grant_shows_that_the_client_is_taken_again(house: House) -> None:
    dead, alive = connect_many(house, 2)
    house.control.revoke_user(2)
    make_due_first(house, alive, dead)
    fault = refuse(house, "invalid_client")
    house.sweep()
    house.control.remove_fault(fault)
    for _ in range(5):
        house.turn(seconds=20)
        house.sweep()
    assert len(house.told("provider.client_recovered")) == 1
    assert {house.connection(each.id).status.value for each in (dead, alive)} == {"active", "revoked"}


def make_due_first(house: House, first: Connection, *others: Connection) -> None:
    for connection in (first, *others):
        house.make_refresh_due(connection.id)


def test_a_user_who_meets_the_refused_client_is_told_at_once_and_the_next_one_finds_it_mended(house: House) -> None:
    connect_many(house, 1)
    house.control.change_client("sandbox-client", client_secret="another")
    for user in ("grace", "linus"):
        house.consent(user, 2)
        house.work()
    assert [event["reason"] for event in house.told("connection.authorization_failed")] == ["client_rejected"] * 2
    assert len(house.told("provider.client_rejected")) == 1
    assert client(house).probes == 1, "who waits for an answer does not lengthen the pause"
    house.control.change_client("sandbox-client", client_secret="sandbox-secret")
    house.connect("edsger", 4)
    assert len(house.told("provider.client_recovered")) == 1
    assert not client(house).is_rejected


def test_a_connection_that_alone_meets_the_refusal_does_not_pause_the_others_for_long(house: House) -> None:
    odd, other = connect_many(house, 2)
    match = {"user_id": odd.account_id}
    house.control.inject("token", kind="garbage", count=None, match=match, **refusals["unauthorized_client"])
    for _ in range(100):
        house.sweep()
        due = house.connection(other.id).refresh_due_at
        if due is not None and due > house.clock():
            house.make_refresh_due(other.id)
        house.turn(seconds=36)
    assert statuses(house, [odd, other]) == {"active"}
    assert house.connection(other.id).generation > 50
    told = len(house.told("provider.client_rejected"))
    assert 4 <= told <= 10, "an hour of it is a few lines for the operator, not a flood"
    assert len(house.told("provider.client_recovered")) in (told - 1, told)
