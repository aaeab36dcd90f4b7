"""A refresh that someone asks for: by a message or by a command, due or not, once a minute."""

from datetime import timedelta
from typing import Any

import pytest
import redis

from models.messaging import messages
from models.oauth.connection import Connection
from scheduler.command_stream import Commands
from scheduler.sweep import Sweep
from tests.harness import House


@pytest.fixture
def connection(house: House) -> Connection:
    """A connection that is fresh: nothing about it is due for hours."""
    connected = house.connect("ada", 1)
    house.work()
    return house.connection(connected.id)


def ask(house: House, connection: Connection) -> None:
    house.queue.send(messages.refresh_token(connection.id))
    house.work()


def test_a_message_refreshes_what_is_not_due(house: House, connection: Connection) -> None:
    ask(house, connection)
    assert house.connection(connection.id).generation == connection.generation + 1
    assert [event["generation"] for event in house.told("connection.refreshed")] == [connection.generation + 1]


def test_a_command_refreshes_what_is_not_due(house: House, connection: Connection, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as raw:
        sweep = Sweep(house.store, house.queue, house.clock, {"breezedoc": house.profile.token_requests_per_minute})
        commands = Commands(house.store, raw, "breezesync:commands", sweep, house.clock)
        fields: dict[Any, Any] = {"type": "refresh", "connection_id": connection.id}
        for _ in range(3):
            raw.xadd("breezesync:commands", fields)
        while commands(timedelta(milliseconds=1)) or commands(timedelta(milliseconds=1)):
            house.work()
    assert house.connection(connection.id).generation == connection.generation + 1


def test_two_requests_within_a_minute_are_one_refresh(house: House, connection: Connection) -> None:
    ask(house, connection)
    house.turn(seconds=59)
    ask(house, connection)
    assert house.connection(connection.id).generation == connection.generation + 1
    house.turn(seconds=2)
    ask(house, connection)
    assert house.connection(connection.id).generation == connection.generation + 2


def test_a_message_that_is_delivered_again_asks_for_no_second_refresh(house: House, connection: Connection) -> None:
    for message_id, refreshes in [("first", 1), ("first", 1), ("second", 2), ("first", 2)]:
        house.flows.refresh(connection.id, asked=True, message_id=message_id)
        house.work()
        assert house.connection(connection.id).generation == connection.generation + refreshes, message_id
        house.turn(seconds=61)


def test_a_message_that_is_delivered_again_carries_out_what_is_still_due(house: House, connection: Connection) -> None:
    house.control.inject(on="token", kind="status", status=503)
    generations = []
    for _ in range(3):
        house.flows.refresh(connection.id, asked=True, message_id="first")
        generations.append(house.connection(connection.id).generation - connection.generation)
        house.turn(minutes=5)
    assert (generations[0], generations[-1]) == (0, 1)


def test_a_message_of_the_sweep_that_comes_late_refreshes_nothing(house: House, connection: Connection) -> None:
    house.queue.send(messages.carry_out_refresh(connection.id))
    house.work()
    assert house.connection(connection.id).generation == connection.generation


def test_a_request_that_dies_with_its_worker_is_carried_out_by_the_sweep(house: House, connection: Connection) -> None:
    with house.store.writing() as tx:
        assert tx.connections.request_refresh(connection.id, house.clock())
    house.sweep()
    assert house.connection(connection.id).generation == connection.generation + 1
