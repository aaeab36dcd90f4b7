"""Behind a path prefix, the path in an event is that of the links."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from models.oauth.connection import Connection
from tests.flows.test_connect_token import connect_token
from tests.harness import House


def connect_by_oauth(house: House, account: int) -> Connection:
    return house.connect("ada", account)


@pytest.mark.parametrize("connect", [connect_by_oauth, connect_token])
def test_whoever_must_authorize_again_gets_the_public_path(
    house: House, connect: Callable[[House, int], Connection]
) -> None:
    client = house.flows.sync.providers["breezedoc"]
    client.provider = house.profile = replace(client.provider, path_prefix="/sync")
    connect(house, 1)
    house.work()
    house.control.revoke_user(1)
    house.turn(minutes=16)
    house.sweep()
    house.sweep()
    [event] = house.told("connection.reauthorization_required")
    assert event["connect_path"] == "/sync/auth/breezedoc"
