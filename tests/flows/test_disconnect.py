"""Old dies: tokens gone in one transaction, the grant ended at the provider however often that takes, and told once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from models.crypto.secrets import Secret
from models.messaging import messages
from models.oauth.connection import Connection
from models.oauth.revocation import give_up_after
from models.oauth.token_pair import TokenPair
from models.oauth.token_response import TokenOutcome, TokensGranted
from models.store import Store, Transaction
from scheduler.prune import Prune
from tests.databases import both_databases
from tests.harness import House
from worker.oauth.personal_token import ConnectToken
from worker.oauth.refresh import RefreshRequest
from worker.provider.client import Called
from worker.tokens.spool import Parking, Ticket

pytestmark = pytest.mark.usefixtures("everything_is_told")


def with_endpoint(house: House) -> House:
    """The provider has a revocation endpoint, and the profile names it."""
    house.control.set(revocation_endpoint=True)
    client = house.flows.exchange.providers["breezedoc"]
    client.provider = replace(client.provider, revoke_url=f"{house.provider.url}/oauth/revoke")
    return house


def is_unheard(house: House) -> None:
    """From now on the provider's endpoint answers 404, as if it were away."""
    house.control.set(revocation_endpoint=False)


def live(house: House, account: int = 1) -> int:
    counted: Any = house.control.counters()["live"]
    return int(counted.get(str(account), {"refresh_tokens": 0})["refresh_tokens"])


def waiting(store: Store) -> int:
    with store.reading() as tx:
        return int(tx.sql.execute(text("SELECT count(*) FROM revocation")).scalar_one())


def confirmed(house: House, connection_id: str) -> int:
    """How many tokens the provider was told to end, and said that it did."""
    with house.store.reading() as tx:
        calls = tx.journal.calls_of(connection_id)
    return sum((call.path, call.status) == ("/oauth/revoke", 200) for call in calls)


def told(house: House) -> list[bool]:
    return [event["revoked_upstream"] for event in house.told("connection.disconnected")]


def connected(house: House) -> Connection:
    connection = house.connect("ada", 1)
    house.work()
    return connection


def refreshing(house: House) -> tuple[Connection, RefreshRequest, Called[TokenOutcome]]:
    """A connection whose refresh is under way: the provider has answered, nothing is saved yet."""
    connection = house.refreshable()
    taken = house.flows.refresh.take(connection.id)
    assert taken is not None
    called = house.flows.refresh.ask(taken)
    assert isinstance(called.outcome, TokensGranted)
    return house.connection(connection.id), taken, called


def sent(house: House) -> messages.Sent:
    """What is known of a message that an application sends just now."""
    return messages.Sent(uuid4().hex, house.clock())


def won(house: House) -> tuple[Connection, Ticket, TokenPair]:
    """A pair that the provider gave and no one saved yet, with what it would be parked under."""
    connection, taken, called = refreshing(house)
    assert isinstance(called.outcome, TokensGranted)
    return connection, taken.ticket, TokenPair(called.outcome, house.clock())


@dataclass
class CountingStore:
    """The store, and how many transactions are open on it."""

    store: Store
    open: int = 0

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        with self.store.writing() as tx, self._counted():
            yield tx

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        with self.store.reading() as tx, self._counted():
            yield tx

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.open += 1
        yield
        self.open -= 1


@dataclass
class WatchedParking:
    """Parking that notes how many transactions were open whenever it was asked."""

    parking: Parking
    store: CountingStore
    open_when_asked: list[int] = field(default_factory=list)

    def find(self, ticket: Ticket) -> TokenPair | None:
        self.open_when_asked.append(self.store.open)
        return self.parking.find(ticket)

    def drop(self, ticket: Ticket) -> None:
        self.parking.drop(ticket)


def test_without_an_endpoint_the_tokens_go_and_it_is_told_at_once(house: House) -> None:
    connection = connected(house)
    house.flows.disconnect(connection.id)
    credential = house.credential(connection.id)
    assert (credential.access_token, credential.refresh_token) == (None, None)
    assert (house.connection(connection.id).status, told(house), waiting(house.store)) == ("disconnected", [False], 0)


def test_with_an_endpoint_the_tokens_go_first_and_the_provider_is_told_next(house: House) -> None:
    connection = connected(with_endpoint(house))
    house.flows.disconnect(connection.id)
    credential = house.credential(connection.id)
    assert (credential.access_token, credential.refresh_token) == (None, None)
    assert (house.connection(connection.id).status, told(house), live(house)) == ("disconnected", [], 1)
    house.work()
    assert (told(house), live(house), waiting(house.store)) == ([True], 0, 0)


def test_a_token_on_its_way_out_is_sealed_and_opens_nowhere_else(house: House) -> None:
    connection = connected(with_endpoint(house))
    is_unheard(house)
    house.flows.disconnect(connection.id)
    with house.store.reading() as tx:
        [row] = tx.revocations.of(connection.id)
        [stored] = tx.sql.execute(text("SELECT token FROM revocation")).scalars()
    assert stored.startswith("v1.k1.")
    assert row.token.text == stored


def test_a_provider_that_is_away_is_told_when_it_is_back(house: House) -> None:
    connection = connected(with_endpoint(house))
    is_unheard(house)
    house.flows.disconnect(connection.id)
    for _ in range(3):
        house.sweep()
        house.turn(minutes=6)
    assert (told(house), waiting(house.store)) == ([], 1)
    house.control.set(revocation_endpoint=True)
    house.turn(hours=1)
    house.sweep()
    assert (told(house), live(house), waiting(house.store)) == ([True], 0, 0)


def test_a_provider_that_never_answers_is_given_up_and_the_event_says_so(house: House) -> None:
    connection = connected(with_endpoint(house))
    is_unheard(house)
    house.flows.disconnect(connection.id)
    house.sweep()
    house.turn(seconds=give_up_after.total_seconds())
    house.sweep()
    house.turn(hours=3)
    house.sweep()
    assert (told(house), waiting(house.store)) == ([False], 0)
    assert house.decisions(connection.id)[-1].verb == "revoked.upstream_unconfirmed"


def test_a_worker_that_dies_between_the_request_and_the_row_leaves_it_to_the_next(house: House) -> None:
    connection = connected(with_endpoint(house))
    house.flows.disconnect(connection.id)
    with house.store.reading() as tx:
        [row] = tx.revocations.of(connection.id)
    house.queue.held.clear()
    taken = replace(row, attempts=1, due_at=house.clock() + timedelta(seconds=30))
    with house.store.writing() as tx:
        tx.revocations.save(taken)
    assert house.flows.revoke._ask(taken)
    house.turn(minutes=1)
    house.sweep()
    assert (told(house), waiting(house.store)) == ([True], 0)


def test_a_disconnect_sent_again_changes_nothing(house: House) -> None:
    connection = connected(with_endpoint(house))
    for _ in range(3):
        house.flows.disconnect(connection.id, sent=sent(house))
        house.queue.send(messages.carry_out_disconnect(connection.id))
    house.work()
    assert (told(house), live(house)) == ([True], 0)
    verbs = [decision.verb for decision in house.decisions(connection.id)]
    assert verbs == ["authorized", "disconnected", "disconnect.repeated", "disconnect.repeated", "revoked.upstream"]


def test_a_request_is_due_until_it_is_carried_out_even_if_its_message_is_lost(house: House) -> None:
    connection = connected(house)
    with house.store.writing() as tx:
        tx.connections.request_disconnect(connection.id, house.clock(), erase=True)
    house.sweep()
    with house.store.reading() as tx:
        assert tx.records.count(connection.id) == {}
    assert house.connection(connection.id).status == "disconnected"
    assert house.sweep() == 0 or told(house) == [False]


def test_erasing_may_be_asked_for_afterwards(house: House) -> None:
    connection = connected(house)
    house.flows.disconnect(connection.id)
    house.flows.disconnect(connection.id, erase=True)
    with house.store.reading() as tx:
        assert tx.records.count(connection.id) == {}
    assert told(house) == [False]


@both_databases
def test_authorizing_again_tells_the_disconnect_first_and_spares_the_new_grant(house: House) -> None:
    connection = connected(with_endpoint(house))
    is_unheard(house)
    house.flows.disconnect(connection.id)
    house.work()
    again = house.connect("ada", 1)
    house.control.set(revocation_endpoint=True)
    house.turn(hours=2)
    house.sweep()
    types = [kind for kind in house.types() if kind.startswith("connection.")]
    assert again.id == connection.id
    assert types == ["connection.authorized", "connection.disconnected", "connection.authorized"]
    assert house.connection(connection.id).status == "active"
    assert waiting(house.store) == 0
    assert live(house) >= 1


def stands(house: House, connection: Connection) -> bool:
    """Whether it is active and has its tokens, and nothing was told of an end."""
    after, credential = house.connection(connection.id), house.credential(connection.id)
    return after.status == "active" and credential.access_token is not None and told(house) == []


@both_databases
def test_a_disconnect_that_comes_after_the_user_authorized_again_is_not_carried_out(house: House) -> None:
    connection = connected(with_endpoint(house))
    late = sent(house)
    house.turn(seconds=31)
    connected(house)
    for _ in range(2):
        house.flows.disconnect(connection.id, erase=True, sent=late)
    assert (stands(house, connection), waiting(house.store)) == (True, 0)
    with house.store.reading() as tx:
        assert tx.records.count(connection.id) != {}
    decisions = [each for each in house.decisions(connection.id) if each.verb == "disconnect.superseded"]
    assert [each.evidence["message_id"] for each in decisions] == [late.id]


def test_a_disconnect_that_came_late_after_weeks_is_not_carried_out_either(house: House) -> None:
    connection = connected(house)
    late = sent(house)
    house.turn(minutes=1)
    connected(house)
    house.turn(days=40)
    Prune(house.store, house.clock)()
    house.flows.disconnect(connection.id, sent=late)
    assert stands(house, connection)


def test_a_disconnect_from_a_clock_that_is_slow_is_carried_out(house: House) -> None:
    connection = connected(house)
    slow = replace(sent(house), at=house.clock() - timedelta(seconds=25))
    house.flows.disconnect(connection.id, sent=slow)
    assert (house.connection(connection.id).status, told(house)) == ("disconnected", [False])


def test_a_disconnect_that_waited_for_long_is_carried_out_where_nobody_authorized_since(house: House) -> None:
    connection = connected(house)
    house.turn(minutes=1)
    waited = sent(house)
    house.turn(hours=30)
    house.flows.disconnect(connection.id, sent=waited)
    assert (house.connection(connection.id).status, told(house)) == ("disconnected", [False])


def test_a_message_that_was_carried_out_does_nothing_when_it_is_delivered_again(house: House) -> None:
    connection = connected(house)
    first, second = sent(house), sent(house)
    for message in (first, second):
        house.flows.disconnect(connection.id, sent=message)
    connected(house)
    for message in (first, second):
        house.flows.disconnect(connection.id, sent=message)
    assert (house.connection(connection.id).status, told(house)) == ("active", [False])


@both_databases
def test_messages_that_are_still_under_way_for_a_request_that_was_carried_out_do_nothing(house: House) -> None:
    connection = connected(house)
    with house.store.writing() as tx:
        tx.connections.request_disconnect(connection.id, house.clock(), erase=False)
    house.perform(messages.carry_out_disconnect(connection.id))
    again = connected(house)
    house.perform(messages.carry_out_disconnect(connection.id))
    assert (again.id, house.connection(connection.id).status) == (connection.id, "active")


def test_a_request_that_was_due_before_the_user_authorized_again_is_due_no_more(house: House) -> None:
    connection = connected(house)
    with house.store.writing() as tx:
        tx.connections.request_disconnect(connection.id, house.clock(), erase=True)
    house.turn(minutes=10)
    connected(house)
    house.sweep()
    house.turn(minutes=2)
    house.sweep()
    assert stands(house, connection)
    with house.store.reading() as tx:
        assert tx.records.count(connection.id) != {}
    assert [each.verb for each in house.decisions(connection.id)].count("disconnect.superseded") == 1


@both_databases
def test_of_two_requests_the_newest_counts_in_whatever_order_they_are_read(house: House) -> None:
    connection = connected(house)
    older = house.clock()
    house.turn(minutes=10)
    connected(house)
    house.turn(minutes=10)
    newer = house.clock()
    for asked_at in (newer, older):
        with house.store.writing() as tx:
            tx.connections.request_disconnect(connection.id, asked_at, erase=False)
    house.sweep()
    assert house.connection(connection.id).status == "disconnected"


def paste_token(house: House) -> None:
    flow = ConnectToken(house.store, house.vault, house.flows.sync.providers, house.queue.send, house.clock)
    flow("breezedoc", "ada", Secret(house.control.personal_token(1)))


def by_row(house: House, connection: Connection) -> None:
    with house.store.writing() as tx:
        tx.connections.request_disconnect(connection.id, house.clock(), erase=False)
    house.flows.disconnect(connection.id, asked=False)


def by_message(house: House, connection: Connection) -> None:
    house.flows.disconnect(connection.id, sent=sent(house))


@pytest.mark.parametrize("again", [connected, paste_token])
@pytest.mark.parametrize("asked", [by_row, by_message])
def test_a_superseded_request_to_erase_is_not_carried_out_with_a_later_disconnect(
    house: House, again: Callable[[House], object], asked: Callable[[House, Connection], None]
) -> None:
    connection = connected(house)
    with house.store.writing() as tx:
        tx.connections.request_disconnect(connection.id, house.clock(), erase=True)
    house.turn(minutes=5)
    again(house)
    house.turn(minutes=5)
    asked(house, connection)
    assert house.connection(connection.id).status == "disconnected"
    with house.store.reading() as tx:
        assert tx.records.count(connection.id) != {}
        assert tx.connections.pending_disconnect(connection.id) is None


def test_a_token_that_was_pasted_after_a_disconnect_was_asked_for_stands(house: House) -> None:
    connection = connected(house)
    late = sent(house)
    house.turn(minutes=1)
    paste_token(house)
    house.flows.disconnect(connection.id, sent=late)
    assert stands(house, connection)


def is_revoked(house: House, connection: Connection) -> None:
    house.control.revoke_user(int(connection.account_id))
    house.make_refresh_due(connection.id)
    house.flows.refresh(connection.id)


def is_of_another_client(house: House, connection: Connection) -> None:
    with house.store.writing() as tx:
        tx.connections.save(replace(connection, client_id="another"), connection.generation)


other_connections: dict[str, tuple[Callable[[House, Connection], None], bool]] = {
    "active": (lambda house, connection: None, True),
    "disconnected": (lambda house, connection: house.flows.disconnect(connection.id), False),
    "revoked": (is_revoked, False),
    "of another client": (is_of_another_client, False),
}


@pytest.mark.parametrize("other", other_connections)
def test_a_stray_grant_is_ended_unless_another_connection_lives_by_the_same(house: House, other: str) -> None:
    change, is_spared = other_connections[other]
    connection = connected(with_endpoint(house))
    grace = house.connect("grace", 2)
    house.work()
    grace = house.connection(grace.id)
    change(house, grace)
    house.work()
    before = live(house, 2)
    authorization_id = house.consent("ada", 2, connection_id=connection.id)
    house.work()
    [event] = house.told("connection.authorization_failed")
    assert event["reason"] == "account_mismatch"
    assert (live(house, 2) == before + 1, waiting(house.store)) == (is_spared, 0)
    verbs = [decision.verb for decision in house.decisions(authorization_id)]
    assert ("exchange.grant_spared" in verbs) == is_spared


@both_databases
def test_a_pair_won_while_its_connection_was_let_go_is_ended_at_the_provider_too(house: House) -> None:
    connection, taken, called = refreshing(with_endpoint(house))
    is_unheard(house)
    house.flows.disconnect(connection.id)
    house.flows.refresh.save(taken, called)
    house.control.set(revocation_endpoint=True)
    house.turn(minutes=2)
    house.sweep()
    assert (house.connection(connection.id).status, live(house), waiting(house.store)) == ("disconnected", 0, 0)
    assert confirmed(house, connection.id) == 2
    assert told(house) == [True]


@both_databases
def test_no_transaction_is_open_while_it_is_asked_what_is_parked(house: House) -> None:
    connection, ticket, pair = won(with_endpoint(house))
    house.flows.disconnect.parking.park(ticket, pair)
    counting = CountingStore(house.store)
    parking = WatchedParking(house.flows.disconnect.parking, counting)
    replace(house.flows.disconnect, store=counting, parking=parking)(connection.id)  # type: ignore[arg-type]
    house.work()
    assert parking.open_when_asked == [0]
    assert (live(house), told(house)) == (0, [True])


@both_databases
def test_a_pair_parked_since_it_was_looked_for_is_left_to_be_taken_in(house: House) -> None:
    connection, ticket, pair = won(with_endpoint(house))
    parking = house.flows.disconnect.parking

    class ParkedJustAfterwards:
        def __getattr__(self, name: str) -> Any:
            return getattr(parking, name)

        def find(self, ticket: Ticket) -> TokenPair | None:
            found = parking.find(ticket)
            parking.park(ticket, pair)
            return found

    replace(house.flows.disconnect, parking=ParkedJustAfterwards())(connection.id)  # type: ignore[arg-type]
    house.flows.recover_tokens()
    house.sweep()
    assert parking.find(ticket) is None
    assert confirmed(house, connection.id) == 2
    assert (live(house), told(house)) == (0, [True])


def test_a_parked_pair_is_what_the_provider_is_told_to_end_and_is_parked_no_longer(house: House) -> None:
    connection, ticket, pair = won(with_endpoint(house))
    parking = house.flows.disconnect.parking
    parking.park(ticket, pair)
    house.flows.disconnect(connection.id)
    house.work()
    assert parking.find(ticket) is None
    assert (live(house), told(house)) == (0, [True])


def test_a_pair_that_was_parked_after_its_connection_was_let_go_is_ended_at_the_provider_too(house: House) -> None:
    connection, ticket, pair = won(with_endpoint(house))
    house.flows.disconnect(connection.id)
    house.work()
    house.flows.disconnect.parking.park(ticket, pair)
    assert house.flows.recover_tokens() == 0
    house.sweep()
    assert confirmed(house, connection.id) == 2
    assert (live(house), waiting(house.store), told(house)) == (0, 0, [True])


@pytest.mark.parametrize("status", ["revoked"])
def test_a_revoked_connection_has_nothing_left_to_tell_the_provider(house: House, status: str) -> None:
    connection = connected(with_endpoint(house))
    house.control.revoke_user(1)
    house.make_refresh_due(connection.id)
    house.flows.refresh(connection.id)
    assert house.connection(connection.id).status == status
    house.flows.disconnect(connection.id)
    house.work()
    assert (house.connection(connection.id).status, told(house), waiting(house.store)) == ("disconnected", [False], 0)


def test_a_token_that_can_not_be_opened_keeps_nobody_from_letting_go(house: House) -> None:
    connection = connected(with_endpoint(house))
    with house.store.writing() as tx:
        tx.sql.execute(text("UPDATE credential SET refresh_token = 'v1.k1.AAAA', access_token = 'v1.gone.AAAA'"))
    house.flows.disconnect(connection.id)
    house.work()
    assert (house.connection(connection.id).status, told(house)) == ("disconnected", [False])


@pytest.mark.parametrize("way", ["its plan allows no access", "another account than the one asked for"])
def test_a_grant_that_came_to_nothing_is_not_ended_once_its_account_is_connected(house: House, way: str) -> None:
    """Some providers keep one grant for each user and client, and the endpoint may be away until then."""
    is_unheard(with_endpoint(house))
    if way == "its plan allows no access":
        house.control.inject("api", status=403, count=1, match={"path": "/api/me"})
        house.consent("ada", 1)
    else:
        house.consent("ada", 1, connection_id=house.connect("ada", 2).id)
    house.work()
    assert waiting(house.store) == 1
    before = live(house)
    connection = house.connect("ada", 1)
    house.control.set(revocation_endpoint=True)
    house.turn(minutes=1)
    house.sweep()
    assert waiting(house.store) == 0
    assert live(house) == before + 1
    assert confirmed(house, connection.id) == 0
