"""The token endpoint's budget over the whole fleet: never too fast, in order, nothing lost, no one asleep."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from models.crypto.secrets import Secret
from models.messaging.messages import Message
from models.oauth.connection import Connection, Status
from models.oauth.credential import Credential, place_of_token
from models.store.connections import table as connection_table
from models.store.credentials import table as credential_table
from models.store.rows import from_connection, names_of
from scheduler.sweep import Sweep
from tests.databases import both_databases
from tests.harness import Clock, House, join_house

pytestmark = both_databases

minute = timedelta(minutes=1)


class SkewedClock(Clock):
    """The house's clock, seen by a machine that is off by a little."""

    def __init__(self, clock: Clock, by: timedelta) -> None:
        self.clock = clock
        self.by = by

    def __call__(self) -> datetime:
        return self.clock() + self.by


def seed(house: House, count: int, due: Callable[[int], timedelta]) -> list[Connection]:
    """Connections with a granted pair each, their refreshes due that long ago."""
    now = house.clock()
    connections, credentials = [], []
    for n in range(count):
        granted = house.control.grant(1 + n % 2)
        connection = Connection(
            f"c{n:04}",
            f"user {n}",
            "breezedoc",
            "sandbox-client",
            str(1 + n % 2),
            Status.active,
            now,
            generation=1,
            expires_at=now + timedelta(days=365),
            refresh_due_at=now - due(n),
        )
        sealed: dict[str, Any] = {
            name: house.vault.seal(Secret(granted[name]), place_of_token(connection, name))
            for name in ("access_token", "refresh_token")
        }
        connections.append(connection)
        credentials.append(Credential(connection.id, issued_at=now, expires_at=connection.expires_at, **sealed))
    with house.store.writing() as tx:
        tx.sql.execute(insert(connection_table), [from_connection(each) for each in connections])
        names = names_of(Credential)
        tx.sql.execute(insert(credential_table), [{n: getattr(each, n) for n in names} for each in credentials])
        tx.clients.save(replace(tx.clients.lock("breezedoc", "sandbox-client"), omit_refresh_scope=True))
    house.control.reset_counters()
    return connections


def limit(house: House, per_minute: int) -> None:
    client = house.flows.refresh.providers["breezedoc"]
    client.provider = house.profile = replace(client.provider, token_requests_per_minute=per_minute)


def claim(house: House) -> list[Message]:
    """What one sweep sends."""
    Sweep(house.store, house.queue, house.clock, {"breezedoc": house.profile.token_requests_per_minute})()
    sent = [message for message in house.queue.held if message.actor == "carry_out_refresh"]
    house.queue.held.clear()
    return sent


def arrivals(house: House) -> list[float]:
    """When each refresh token and code reached the provider, by its clock."""
    counted = house.control.counters()
    shown = (*counted["refresh_tokens"], *counted["codes"])
    return sorted(one["at"] for each in shown for one in each["presentations"])


def most_in_a_minute(at: Sequence[float]) -> int:
    return max(sum(first <= each < first + 60 for each in at) for first in at)


@pytest.mark.timeout(300)
@pytest.mark.no_cover  # runs the same few lines very often
def test_hundreds_of_refreshes_due_at_once_go_through_in_order_at_sixty_a_minute(house: House) -> None:
    count = 500 if house.store.engine.dialect.name == "sqlite" else 250
    connections = seed(house, count, lambda n: timedelta(hours=1) - timedelta(seconds=n))
    house.control.set(token_rate_limit=60)
    sent = 0
    for _ in range(300):
        for message in claim(house):
            sent += 1
            house.perform(message)
        house.queue.held.clear()
        if len(house.told("connection.refreshed")) == len(connections):
            break
        house.turn(seconds=10)
    at = arrivals(house)
    assert len(at) == count, "each was presented, and once"
    assert house.presentations() == 1
    assert most_in_a_minute(at) <= 60
    assert at[-1] - at[0] < count / 54 * 75 + 60, "and the budget that refreshes have was used"
    assert sent == count, "nothing was sent that could not go"
    order = [event["connection_id"] for event in house.told("connection.refreshed")]
    assert order == [each.id for each in connections]


def test_workers_whose_clocks_differ_by_a_second_keep_the_limit_together(house: House) -> None:
    seed(house, 60, lambda n: timedelta(hours=1) - timedelta(seconds=n))
    limit(house, 12)
    workers = [house]
    for by in (-0.5, 0.5):
        clock = SkewedClock(house.clock, timedelta(seconds=by))
        other = join_house(house.store, house.provider, house.profile, house.vault, clock, house.spool)
        workers.append(other)
    turn = 0
    while len(house.told("connection.refreshed")) < 60:
        for message in claim(workers[turn % 3]):
            workers[turn % 2 + 1].perform(message)
            turn += 1
        for worker in workers:
            worker.queue.held.clear()
        turn += 1
        house.turn(seconds=2.9)
        assert turn < 1000
    assert most_in_a_minute(arrivals(house)) <= 12
    assert house.presentations() == 1
    for other in workers[1:]:
        for provider in other.flows.refresh.providers.values():
            provider.close()


def test_a_user_who_waits_goes_before_refreshes_that_wait(house: House) -> None:
    seed(house, 30, lambda n: timedelta(hours=1) - timedelta(seconds=n))
    limit(house, 10)
    house.sweep()
    assert len(arrivals(house)) == 9, "a tenth is left for those who wait"
    connected = house.connect("edsger", 4)
    assert connected.generation == 1
    authorization_id = house.consent("grace", 2)
    house.work()
    with house.store.reading() as tx:
        waiting = tx.authorizations.get(authorization_id)
    assert waiting is not None
    assert waiting.step == "received", "the budget is used up"
    for _ in range(62):
        house.turn(seconds=1)
        house.sweep()
    with house.store.reading() as tx:
        found = tx.authorizations.get(authorization_id)
    assert found is not None
    assert found.step == "connected"
    assert most_in_a_minute(arrivals(house)) <= 10


def test_a_429_stops_refreshes_and_exchanges_of_the_whole_fleet_until_its_time(house: House) -> None:
    first, *others = seed(house, 20, lambda n: timedelta(hours=1) - timedelta(seconds=n))
    house.control.inject("token", moment="before", status=429, retry_after=120)
    house.flows.refresh(first.id)
    authorization_id = house.consent("grace", 2)
    sent = []
    for _ in range(11):
        sent += claim(house)
        house.turn(seconds=10)
        house.work()
    assert sum(house.control.counters()["token_requests"].values()) == 1
    assert sent == [], "nothing is sent that would only have to wait"
    house.turn(seconds=15)
    for _ in range(3):
        house.sweep()
    with house.store.reading() as tx:
        found = tx.authorizations.get(authorization_id)
    assert found is not None
    assert found.step == "connected"
    assert {house.connection(each.id).generation for each in (first, *others)} == {2}
    assert house.connection(first.id).problem is None


def test_a_shorter_retry_after_that_comes_late_does_not_shorten_the_pause(house: House) -> None:
    with house.store.writing() as tx:
        now = house.clock()
        tx.paces.pause("breezedoc", now + 2 * minute)
        tx.paces.pause("breezedoc", now + minute)
        assert tx.paces.get("breezedoc").paused_until == now + 2 * minute
        tx.paces.pause("breezedoc", now + 3 * minute)
        assert tx.paces.get("breezedoc").paused_until == now + 3 * minute


def test_what_resolves_an_unknown_outcome_takes_from_the_budget_too(house: House) -> None:
    [connection] = seed(house, 1, lambda n: minute)
    house.control.inject("token", moment="before", kind="drop")
    house.flows.refresh(connection.id)
    house.turn(seconds=62)
    limit(house, 1)
    with house.store.writing() as tx:
        assert tx.paces.take("breezedoc", 1, "exchange", house.clock()) is None
    house.flows.refresh(connection.id)
    assert len(arrivals(house)) == 1, "found unspent, and waits"
    assert house.credential(connection.id).presented_at is None
    for _ in range(8):
        house.turn(seconds=10)
        house.sweep()
    assert house.connection(connection.id).generation == 2
