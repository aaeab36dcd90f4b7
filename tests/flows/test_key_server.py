"""Flows whose master key is behind requests: while it is away nothing is presented, lost or ended."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from models.crypto.errors import KeyServiceUnavailable
from models.crypto.vault import Vault
from models.oauth.token_response import TokensGranted
from tests.harness import House, join_house
from tests.key_server import KeyServer
from worker.tokens.data_keys import DataKeys, longest_kept, pause
from worker.tokens.spool_backends import ParkingUnavailable

settle = 61


@pytest.fixture
def server() -> KeyServer:
    return KeyServer()


Join = Callable[[], House]


@pytest.fixture
def join(house: House, server: KeyServer) -> Iterator[Join]:
    """Return one more process, which has no data key in memory yet."""
    joined: list[House] = []

    def one_more() -> House:
        vault = Vault(house.keys, DataKeys(server, clock=server.clock))
        joined.append(join_house(house.store, house.provider, house.profile, vault, house.clock, house.spool))
        return joined[-1]

    yield one_more
    for each in joined:
        for provider in each.flows.refresh.providers.values():
            provider.close()


@pytest.fixture
def served(join: Join) -> House:
    return join()


def test_a_whole_life_is_sealed_by_the_server(served: House, server: KeyServer) -> None:
    connection = served.refreshable()
    served.flows.refresh(connection.id)
    assert served.connection(connection.id).generation == 3
    served.flows.disconnect(connection.id)
    assert served.types()[-1] == "connection.disconnected"
    assert set(server.requests) == {"wrap"}, "what this process sealed, it opens without a request"


def test_a_refresh_takes_one_request_in_a_process_that_has_not_seen_the_token(
    house: House, served: House, server: KeyServer, join: Join
) -> None:
    connection = served.refreshable()
    other = join()
    server.requests.clear()
    other.flows.refresh(connection.id)
    assert house.connection(connection.id).generation == 3
    assert server.requests.count("unwrap") <= 2, "the token's, and the client secret's that it is compared with"


def test_while_the_server_is_away_no_token_leaves_and_no_connection_ends(
    house: House, served: House, server: KeyServer, join: Join
) -> None:
    connection = served.refreshable()
    other, before = join(), served.presentations()
    server.is_away = True
    for _ in range(3):
        with pytest.raises(KeyServiceUnavailable):
            other.flows.refresh(connection.id)
        with pytest.raises(KeyServiceUnavailable):
            other.flows.sync(connection.id)
        house.turn(hours=30)
    after = house.connection(connection.id)
    assert (after.status, after.problem, served.presentations()) == ("active", None, before)
    assert house.credential(connection.id).presented_at is None
    server.is_away = False
    server.time += pause.total_seconds() + 1
    other.flows.refresh(connection.id)
    assert house.connection(connection.id).generation == 3


def test_a_code_waits_while_the_server_is_away(house: House, served: House, server: KeyServer) -> None:
    authorization_id = served.consent("ada", 1)
    server.is_away = True
    with pytest.raises(KeyServiceUnavailable):
        served.flows.exchange(authorization_id)
    with house.store.reading() as tx:
        found = tx.authorizations.get(authorization_id)
    assert found is not None
    assert (found.step, found.presented_at) == ("received", None)
    server.is_away = False
    server.time += pause.total_seconds() + 1
    served.flows.exchange(authorization_id)
    assert served.types() == ["connection.authorized"]


def test_what_a_provider_answered_is_saved_though_the_server_is_away_by_then(served: House, server: KeyServer) -> None:
    connection = served.refreshable()
    request = served.flows.refresh.take(connection.id)
    assert request is not None
    server.is_away = True
    called = served.flows.refresh.ask(request)
    served.flows.refresh.save_or_park(request, called)
    assert served.connection(connection.id).generation == 3
    assert served.flows.refresh.parking.tickets() == []


def test_a_refresh_token_that_stays_in_use_is_sealed_to_the_next_generation(house: House) -> None:
    connection = house.refreshable()
    before = house.credential(connection.id).refresh_token
    request = house.flows.refresh.take(connection.id)
    assert request is not None
    called = house.flows.refresh.ask(request)
    assert isinstance(called.outcome, TokensGranted)
    granted = replace(called.outcome, refresh_token=None)
    house.flows.refresh.save_or_park(request, replace(called, outcome=granted))
    kept = house.credential(connection.id).refresh_token
    assert kept != before
    house.make_refresh_due(connection.id)
    taken = house.flows.refresh.take(connection.id)
    assert taken is not None
    assert taken.refresh_token == request.refresh_token


def test_an_outcome_is_not_looked_into_while_the_server_is_away(
    house: House, served: House, server: KeyServer, join: Join
) -> None:
    connection = served.refreshable()
    house.control.inject("token", moment="after", kind="drop")
    served.flows.refresh(connection.id)
    house.turn(seconds=settle)
    other, server.is_away = join(), True
    with pytest.raises(KeyServiceUnavailable):
        other.flows.refresh(connection.id)
    house.turn(hours=48)
    with pytest.raises(KeyServiceUnavailable):
        other.flows.refresh(connection.id)
    assert house.connection(connection.id).status == "active"
    server.is_away = False
    server.time += pause.total_seconds() + 1
    house.turn(minutes=5)
    other.flows.refresh(connection.id)
    assert house.connection(connection.id).revoked_reason in (None, "rotation_lost")


def test_a_parked_pair_waits_for_the_server(house: House, served: House, server: KeyServer, join: Join) -> None:
    connection = served.refreshable()
    request = served.flows.refresh.take(connection.id)
    assert request is not None
    called = served.flows.refresh.ask(request)
    with (
        pytest.raises(ZeroDivisionError),
        served.flows.refresh.parking.shielding(request.ticket, called.outcome, house.clock()),
    ):
        raise ZeroDivisionError
    other, server.is_away = join(), True
    with pytest.raises(ParkingUnavailable):
        other.flows.recover_tokens.parking.find(request.ticket)
    assert other.flows.recover_tokens() == 0
    server.is_away = False
    server.time += pause.total_seconds() + 1
    assert other.flows.recover_tokens() == 1
    assert house.connection(connection.id).generation == 3


def test_a_disconnect_waits_for_no_key_if_there_is_nothing_to_revoke_upstream(
    house: House, served: House, server: KeyServer, join: Join
) -> None:
    connection = served.connect("ada", 1)
    other, server.is_away = join(), True
    other.flows.disconnect(connection.id)
    assert house.connection(connection.id).status == "disconnected"
    assert house.credential(connection.id).access_token is None


def test_a_disconnect_waits_for_the_server_and_then_revokes_upstream(
    house: House, served: House, server: KeyServer, join: Join
) -> None:
    connection = served.connect("ada", 1)
    other, server.is_away = join(), True
    for client in other.flows.disconnect.providers.values():
        client.provider = replace(client.provider, revoke_url=f"{house.provider.url}/oauth/revoke")
    with pytest.raises(KeyServiceUnavailable):
        other.flows.disconnect(connection.id)
    server.is_away = False
    server.time += pause.total_seconds() + 1
    other.flows.disconnect(connection.id)
    assert house.connection(connection.id).status == "disconnected"


def test_a_data_key_that_the_server_refuses_sets_aside_and_ends_nothing(
    house: House, served: House, server: KeyServer, join: Join
) -> None:
    connection = served.refreshable()
    other, server.refuses = join(), True
    other.flows.refresh(connection.id)
    after = house.connection(connection.id)
    assert (after.status, after.problem) == ("active", "token_unreadable")
    assert house.credential(connection.id).presented_at is None


@pytest.mark.parametrize("name", ["refresh_token", "access_token"])
def test_an_older_seal_of_a_token_does_not_open(house: House, name: str) -> None:
    connection = house.refreshable()
    old = house.credential(connection.id)
    house.flows.refresh(connection.id)
    before = house.presentations()
    with house.store.writing() as tx:
        current = tx.credentials.get(connection.id)
        assert current is not None
        tx.credentials.put(replace(current, **{name: getattr(old, name)}))
    if name == "refresh_token":
        house.make_refresh_due(connection.id)
        house.flows.refresh(connection.id)
        assert house.connection(connection.id).problem == "token_unreadable"
    else:
        house.flows.sync(connection.id)
        assert house.connection(connection.id).problem == "token_unreadable"
    assert (house.connection(connection.id).status, house.presentations()) == ("active", before)


def test_a_whole_older_row_does_not_open_either(house: House) -> None:
    connection = house.refreshable()
    old = house.credential(connection.id)
    house.flows.refresh(connection.id)
    before = house.presentations()
    with house.store.writing() as tx:
        tx.credentials.put(old)
    house.make_refresh_due(connection.id)
    house.flows.refresh(connection.id)
    assert (house.connection(connection.id).problem, house.presentations()) == ("token_unreadable", before)


def test_the_client_secret_that_works_is_kept_by_the_server_too(served: House, server: KeyServer) -> None:
    connection = served.refreshable()
    server.time += longest_kept.total_seconds() + 1
    served.flows.refresh(connection.id)
    with served.store.reading() as tx:
        stored = tx.clients.get("breezedoc", served.provider.client_id)
    assert stored is not None
    assert stored.secret is not None
    assert stored.secret.text.startswith("v1.server.")
