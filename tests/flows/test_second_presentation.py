"""What a second presentation may cost: the note of the first stays until its outcome is known."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from models.api_response import Page
from models.oauth.claims import Claims
from models.oauth.connection import Connection
from models.oauth.token_response import Evidence, OutcomeUnknown, TokenOutcome
from scheduler.sweep import claim_length
from tests.databases import both_databases
from tests.harness import House
from worker.oauth.refresh import RefreshRequest
from worker.provider.client import Called

pytestmark = both_databases

settle = 61

answers_that_spend_nothing: dict[str, dict[str, Any]] = {
    "503": {"status": 503},
    "429": {"status": 429, "retry_after": 5},
    "our client refused": {"kind": "garbage", "status": 401, "body": '{"error": "invalid_client"}'},
    "malformed": {"kind": "garbage", "status": 400, "body": '{"error": "invalid_request"}'},
}


def refreshable_with_a_grace(house: House) -> Connection:
    """A connection that is due, at a provider with the grace that a profile has where it names none."""
    connection = house.refreshable()
    client = house.flows.refresh.providers["breezedoc"]
    client.provider = replace(client.provider, refresh_reuse="grace")
    house.control.set(refresh_reuse="grace", grace_seconds=client.provider.grace_seconds)
    return connection


def with_a_lost_answer(house: House, reuse: str, grace_seconds: int = 30) -> Connection:
    """A connection whose refresh token was spent, and whose new pair no one got."""
    connection = house.connect("ada", 1)
    house.queue.held.clear()
    with house.store.writing() as tx:
        tx.clients.save(replace(tx.clients.lock("breezedoc", "sandbox-client"), omit_refresh_scope=True))
    client = house.flows.refresh.providers["breezedoc"]
    client.provider = replace(client.provider, refresh_reuse=reuse, grace_seconds=grace_seconds)  # type: ignore[arg-type]
    house.control.set(refresh_reuse=reuse, grace_seconds=grace_seconds)
    house.make_refresh_due(connection.id)
    house.control.inject("token", moment="after", kind="drop")
    house.flows.refresh(connection.id)
    house.queue.held.clear()
    return connection


def close_breaker(house: House) -> None:
    """Send the probe that a sweep would have sent: the lost answer opened the breaker."""
    house.flows.probe_client("breezedoc", "sandbox-client")


@pytest.mark.parametrize("answer", answers_that_spend_nothing)
def test_an_answer_that_spends_nothing_does_not_erase_what_is_unknown_of_the_first(house: House, answer: str) -> None:
    connection = with_a_lost_answer(house, "harmless")
    house.control.inject("token", moment="before", **answers_that_spend_nothing[answer])
    house.turn(seconds=settle)
    house.flows.refresh(connection.id)
    assert house.credential(connection.id).presentations == 1
    for _ in range(4):
        house.turn(seconds=settle)
        house.sweep()
    after = house.connection(connection.id)
    assert (after.status, after.revoked_reason) == ("revoked", "rotation_lost")


def test_within_the_grace_the_same_pair_comes_once_more(house: House) -> None:
    connection = with_a_lost_answer(house, "grace")
    house.turn(seconds=21)
    close_breaker(house)
    house.flows.refresh(connection.id)
    after = house.connection(connection.id)
    assert (after.status, after.generation) == ("active", connection.generation + 1)
    assert house.presentations() == 2


def present(house: House, connection: Connection) -> tuple[RefreshRequest, Called[TokenOutcome]]:
    """One presentation, its pair given and not yet saved; the sweep that sent its message holds the claim."""
    with house.store.writing() as tx:
        found = tx.connections.lock(connection.id)
        assert found is not None
        tx.connections.save(found, found.generation, Claims(refresh=house.clock() + claim_length))
    taken = house.flows.refresh.take(connection.id)
    assert taken is not None
    return taken, house.flows.refresh.ask(taken)


def sweep_each_second(house: House, seconds: int) -> None:
    for _ in range(seconds):
        house.turn(seconds=1)
        house.sweep()


def test_a_worker_that_dies_with_the_answer_leaves_time_for_a_second_try(house: House) -> None:
    connection = refreshable_with_a_grace(house)
    present(house, connection)
    sweep_each_second(house, 29)
    after = house.connection(connection.id)
    assert (after.status, after.generation) == ("active", connection.generation + 1)
    assert house.presentations() == 2


def test_whoever_comes_too_early_leaves_time_for_a_second_try(house: House) -> None:
    connection = refreshable_with_a_grace(house)
    present(house, connection)
    house.make_refresh_due(connection.id)
    sweep_each_second(house, 29)
    assert house.connection(connection.id).generation == connection.generation + 1


def test_a_timeout_leaves_time_for_a_second_try(house: House) -> None:
    connection = refreshable_with_a_grace(house)
    taken, called = present(house, connection)
    house.turn(seconds=house.flows.refresh.providers["breezedoc"].patience.deadline.total_seconds())
    house.flows.refresh.save(taken, called.read_as(OutcomeUnknown(Evidence(description="ReadTimeout"))))
    sweep_each_second(house, 19)
    assert house.connection(connection.id).generation == connection.generation + 1


def test_within_the_grace_no_proof_is_waited_for(house: House) -> None:
    connection = with_a_lost_answer(house, "grace")
    house.control.inject("api", status=500, count=None)
    house.turn(seconds=21)
    house.sweep()
    assert house.connection(connection.id).generation == connection.generation + 1


@pytest.mark.no_cover  # runs the same few lines very often
def test_what_was_presented_goes_before_all_that_only_waits_its_turn(house: House) -> None:
    others = [house.connect(f"user {number}", 2) for number in range(30)]
    house.turn(seconds=settle)
    connection = with_a_lost_answer(house, "grace")
    client = house.flows.refresh.providers["breezedoc"]
    client.provider = house.profile = replace(client.provider, token_requests_per_minute=20)
    for other in others:
        with house.store.writing() as tx:
            found = tx.connections.lock(other.id)
            assert found is not None
            tx.connections.save(replace(found, refresh_due_at=house.clock() - timedelta(days=1)), found.generation)
    house.queue.held.clear()
    sweep_each_second(house, 25)
    assert house.connection(connection.id).generation == connection.generation + 1
    assert house.told("connection.refreshed"), "the others went on meanwhile"


def test_a_worker_that_sleeps_past_the_grace_sends_nothing_more(house: House) -> None:
    connection = with_a_lost_answer(house, "grace")
    house.turn(seconds=25)
    close_breaker(house)
    taken = house.flows.refresh.take(connection.id)
    assert taken is not None
    house.turn(seconds=6)
    house.flows.refresh.save(taken, house.flows.refresh.ask(taken))
    house.turn(seconds=settle)
    house.sweep()
    assert house.presentations() == 1, "the family stays alive"
    assert house.connection(connection.id).revoked_reason == "rotation_lost"
    assert house.control.counters()["live"]["1"]["families"] == 1


def test_an_access_token_that_outlives_the_rotation_proves_nothing(house: House) -> None:
    connection = with_a_lost_answer(house, "family_revoked")
    client = house.flows.refresh.providers["breezedoc"]
    client.provider = replace(client.provider, rotation_ends_access=False)
    still_works: Any = Answering(client, Page(({"id": 1},), 1, 1, 1))
    house.turn(seconds=settle)
    close_breaker(house)
    replace(house.flows.refresh, providers={"breezedoc": still_works})(connection.id)
    assert house.connection(connection.id).revoked_reason == "rotation_lost"
    assert house.control.counters()["live"]["1"]["families"] == 1


class Answering:
    """A provider's client that hears this of every account that it asks for."""

    def __init__(self, client: Any, outcome: Page) -> None:
        self.client = client
        self.outcome = outcome

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def read_account(self, *asked: Any) -> Any:
        return self.client.read_account(*asked).read_as(self.outcome)


class Meanwhile:
    """A provider's client that lets something else happen while it asks for the account."""

    def __init__(self, client: Any, then: Callable[[], None]) -> None:
        self.client = client
        self.then = then

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def read_account(self, *asked: Any) -> Any:
        called = self.client.read_account(*asked)
        self.then()
        return called


def test_a_reading_that_goes_on_while_an_outcome_is_resolved_loses_nothing(house: House) -> None:
    connection = with_a_lost_answer(house, "harmless")
    house.turn(seconds=settle)

    def ask_for_a_sync() -> None:
        with house.store.writing() as tx:
            found = tx.connections.lock(connection.id)
            assert found is not None
            tx.connections.save(replace(found, sync_requested=True), found.generation)

    watched: Any = Meanwhile(house.flows.refresh.providers["breezedoc"], ask_for_a_sync)
    taken = replace(house.flows.refresh, providers={"breezedoc": watched}).take(connection.id)
    assert taken is not None
    assert taken.presentation.attempt.after_unknown
    assert house.connection(connection.id).sync_requested
