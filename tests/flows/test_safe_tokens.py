"""What stands between a token and its loss: nothing presented for nothing, nothing won and then dropped."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from threading import Thread
from time import sleep
from typing import Any

import pytest
from sqlalchemy import text

import worker.deadlines
from models.crypto.secrets import Sealed, Secret
from models.crypto.vault import Vault, new_key
from models.errors import StoreConflict, StoreRefused, StoreUnavailable
from models.oauth.connection import Connection
from models.oauth.credential import place_of_token
from models.oauth.exchange_outcome import CodeRequest
from models.oauth.token_pair import TokenPair
from models.oauth.token_response import TokensGranted
from models.store.sealed_fields import fields
from tests.databases import both_databases
from tests.harness import House, join_house
from tests.servers import absent_redis
from worker.cli.keys import reseal
from worker.tokens.spool import Ticket
from worker.tokens.spool_backends import ParkingUnavailable

SETTLE = 61


def lose_an_answer(house: House) -> Connection:
    """A refreshable connection, presented once: the provider rotated and its answer was lost."""
    connection = house.refreshable()
    house.control.inject("token", moment="after", kind="drop")
    house.flows.refresh(connection.id)
    return connection


def break_seal(house: House, connection_id: str) -> None:
    credential = house.credential(connection_id)
    with house.store.writing() as tx:
        tx.credentials.put(replace(credential, refresh_token=Sealed("v1.k1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")))


unprepared: dict[str, tuple[Callable[[House], Any], str]] = {
    "a client no one knows": (
        lambda house: replace(house.flows.refresh, clients=replace(house.flows.refresh.clients, configured=())),
        "client_unknown",
    ),
    "a key that was taken out": (
        lambda house: replace(house.flows.refresh, vault=Vault((new_key("k2"),))),
        "token_unreadable",
    ),
}


@pytest.mark.parametrize("case", unprepared)
def test_a_token_that_cannot_leave_does_not_count_as_presented(house: House, case: str) -> None:
    connection = house.refreshable()
    hide_secret(house)
    build, problem = unprepared[case]
    build(house)(connection.id)
    credential, after = house.credential(connection.id), house.connection(connection.id)
    assert (credential.presented_at, credential.presentations, credential.lease_until) == (None, 0, None)
    assert (after.status, after.problem) == ("active", problem)
    assert after.refresh_due_at is not None
    assert after.refresh_due_at > house.clock()
    assert house.presentations() == 0
    house.turn(seconds=SETTLE)
    house.flows.probe_client("breezedoc", "sandbox-client")
    house.flows.refresh(connection.id)
    assert (house.connection(connection.id).generation, house.connection(connection.id).problem) == (3, None)


def hide_secret(house: House) -> None:
    """Takes the client's stored secret away: only the settings know it now."""
    with house.store.writing() as tx:
        tx.clients.save(replace(tx.clients.lock("breezedoc", house.provider.client_id), secret=None))


def test_a_broken_seal_is_the_operators_matter_and_revokes_nobody(house: House) -> None:
    connection = house.refreshable()
    break_seal(house, connection.id)
    house.flows.refresh(connection.id)
    assert house.credential(connection.id).presentations == 0
    assert (house.connection(connection.id).status, house.presentations()) == ("active", 0)


def test_a_code_that_cannot_leave_does_not_count_as_presented(house: House) -> None:
    authorization_id = house.consent("ada", 1)
    replace(house.flows.exchange, vault=Vault((new_key("k2"),)))(authorization_id)
    with house.store.reading() as tx:
        found = tx.authorizations.get(authorization_id)
    assert found is not None
    assert (found.step, found.presented_at, found.attempts) == ("received", None, 0)
    house.turn(seconds=SETTLE)
    house.sweep()
    assert house.types() == ["connection.authorized", "sync.completed"]


def test_a_code_that_the_provider_calls_expired_is_told_as_that(house: House) -> None:
    authorization_id = house.consent("ada", 1)
    house.control.advance(601)
    house.flows.exchange(authorization_id)
    [failed] = house.told("connection.authorization_failed")
    assert failed["reason"] == "expired"


class Failing:
    """A store whose next commit raises, as anything might that goes wrong between an answer and its save."""

    def __init__(self, store: Any, error: BaseException) -> None:
        self.store = store
        self.error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    @contextmanager
    def writing(self) -> Iterator[Any]:
        with self.store.writing() as tx:
            yield tx
            raise self.error


anything: dict[str, BaseException] = {
    "a defect of ours": ZeroDivisionError("a defect"),
    "no memory": MemoryError(),
    "an interrupt": KeyboardInterrupt(),
    "an exit": SystemExit(1),
}


@pytest.mark.parametrize("case", anything)
def test_whatever_goes_wrong_between_answer_and_save_the_pair_is_parked(house: House, case: str) -> None:
    connection = house.refreshable()
    flow = house.flows.refresh
    taken = flow.take(connection.id)
    assert taken is not None
    called = flow.ask(taken)
    with pytest.raises(type(anything[case])):
        replace(flow, store=Failing(house.store, anything[case])).save_or_park(taken, called)  # type: ignore[arg-type]
    assert house.connection(connection.id).generation == 2
    assert house.flows.recover_tokens() == 1
    assert house.connection(connection.id).generation == 3


@pytest.mark.parametrize("case", anything)
def test_whatever_goes_wrong_after_an_exchange_its_tokens_are_parked(house: House, case: str) -> None:
    authorization_id = house.consent("ada", 1)
    flow = house.flows.exchange
    taken = flow.load(authorization_id)
    assert isinstance(taken, CodeRequest)
    called = flow.ask(taken)
    with pytest.raises(type(anything[case])):
        replace(flow, store=Failing(house.store, anything[case])).save(taken, called)  # type: ignore[arg-type]
    assert house.flows.recover_tokens() == 1
    house.work()
    assert house.types() == ["connection.authorized", "sync.completed"]
    assert house.control.counters()["max_code_presentations"] == 1


def park_a_pair(house: House) -> Connection:
    connection = house.refreshable()
    flow = house.flows.refresh
    taken = flow.take(connection.id)
    assert taken is not None
    called = flow.ask(taken)
    with pytest.raises(StoreUnavailable):
        replace(flow, store=Failing(house.store, StoreUnavailable("away"))).save_or_park(taken, called)  # type: ignore[arg-type]
    return connection


def test_a_parked_pair_is_found_before_anything_is_said_to_be_lost(house: House) -> None:
    connection = park_a_pair(house)
    house.turn(seconds=SETTLE)
    house.sweep()
    assert house.connection(connection.id).generation == 3
    assert house.presentations() == 1


@both_databases
def test_a_pair_whose_save_hangs_is_parked_meanwhile_and_saved_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.deadlines, "longest_save", timedelta(milliseconds=50))
    connection = house.refreshable()
    flow = house.flows.refresh
    taken = flow.take(connection.id)
    assert taken is not None
    called = flow.ask(taken)
    with house.store.writing() as tx:
        tx.connections.lock(connection.id)
        saving = Thread(target=flow.save_or_park, args=(taken, called))
        saving.start()
        wait_until(lambda: flow.parking.find(taken.ticket) is not None)
        assert saving.is_alive(), "the lock is still held"
    saving.join()
    assert house.connection(connection.id).generation == 3
    assert house.flows.recover_tokens() == 0
    assert flow.parking.tickets() == []
    assert house.told("connection.refreshed")[-1]["generation"] == 3
    assert live_families(house) == 1


@both_databases
def test_a_code_whose_tokens_cannot_be_saved_for_long_has_them_parked(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.deadlines, "longest_save", timedelta(milliseconds=50))
    authorization_id = house.consent("ada", 1)
    flow = house.flows.exchange
    taken = flow.load(authorization_id)
    assert isinstance(taken, CodeRequest)
    called = flow.ask(taken)
    with house.store.writing() as tx:
        tx.authorizations.lock(authorization_id)
        saving = Thread(target=flow.save, args=(taken, called))
        saving.start()
        wait_until(lambda: flow.parking.find(Ticket("exchange", authorization_id)) is not None)
        assert saving.is_alive(), "the lock is still held"
    saving.join()
    assert house.flows.recover_tokens() == 0
    house.flows.exchange(authorization_id)
    house.turn(seconds=SETTLE)
    house.sweep()
    assert len(house.told("connection.authorized")) == 1


def wait_until(is_so: Callable[[], bool]) -> None:
    """Returns as soon as it is so; the test's own time limit ends a wait in vain."""
    while not is_so():
        sleep(0.01)


def live_families(house: House) -> int:
    return sum(user["families"] for user in house.control.counters()["live"].values())


def test_a_key_that_is_missing_when_an_outcome_is_looked_into_decides_nothing(house: House) -> None:
    connection = lose_an_answer(house)
    client = house.flows.refresh.providers["breezedoc"]
    client.provider = replace(client.provider, refresh_reuse="family_revoked")
    house.turn(seconds=SETTLE)
    replace(house.flows.refresh, vault=Vault((new_key("k2"),)))(connection.id)
    after = house.connection(connection.id)
    assert (after.status, after.problem) == ("active", "token_unreadable")
    assert house.credential(connection.id).presentations == 1


def test_nothing_is_said_to_be_lost_while_a_parked_pair_lacks_its_key(house: House) -> None:
    connection = park_a_pair(house)
    house.turn(seconds=SETTLE)
    parking = replace(house.flows.refresh.parking, vault=Vault((new_key("k2"),)))
    with pytest.raises(ParkingUnavailable):
        replace(house.flows.refresh, parking=parking)(connection.id)
    assert replace(house.flows.recover_tokens, parking=parking)() == 0
    assert house.connection(connection.id).status == "active"
    assert house.flows.recover_tokens() == 1
    assert house.presentations() == 1


def test_one_pair_that_cannot_be_taken_in_keeps_no_other_waiting(house: House) -> None:
    connection = park_a_pair(house)
    parking = house.flows.refresh.parking
    for name in (f"refresh-{connection.id}-0", "exchange-0-0", "refresh-0-1"):
        (parking.spool / f"{name}.pair").write_bytes(b"\xff\xfe v1")
    parking.redis.hset("breezesync:parked", "refresh-0-2", b"\xff")
    assert house.flows.recover_tokens() == 1
    assert house.connection(connection.id).generation == 3


class Counting(Failing):
    """A store whose every transaction that writes raises, and that counts them."""

    tried = 0

    @contextmanager
    def writing(self) -> Iterator[Any]:
        self.tried += 1
        raise self.error
        yield  # a generator, for the context manager


ends_the_pass: dict[str, tuple[BaseException, int]] = {
    "the database is away": (StoreUnavailable("away"), 1),
    "a statement is refused": (StoreRefused("refused"), 3),
    "someone else was faster": (StoreConflict("faster"), 3),
    "a defect of ours": (ValueError("a defect"), 3),
    "a text that is no UTF-8": (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates"), 3),
}


@pytest.mark.parametrize("case", ends_the_pass)
def test_only_a_database_that_is_away_ends_a_pass(house: House, case: str) -> None:
    error, tries = ends_the_pass[case]
    pair = TokenPair(TokensGranted(Secret("a"), Secret("r"), None, None), house.clock())
    for number in range(3):
        house.flows.recover_tokens.parking.park(Ticket("refresh", "nobody", number), pair)
    store = Counting(house.store, error)
    with suppress(StoreUnavailable):
        assert replace(house.flows.recover_tokens, store=store)() == 0  # type: ignore[arg-type]
    assert store.tried == tries
    assert len(house.flows.recover_tokens.parking.tickets()) == 3
    house.flows.recover_tokens()
    assert house.flows.recover_tokens.parking.tickets() == []


def test_a_server_that_echoes_a_secret_is_not_repeated(house: House) -> None:
    connection = house.refreshable()
    sealed = house.credential(connection.id).refresh_token
    assert sealed is not None
    token = house.vault.open(sealed, place_of_token(house.connection(connection.id), "refresh_token")).reveal()
    body = {"error": "invalid_grant", "error_description": f"no such token: {token}", "hint": token}
    house.control.inject("token", kind="garbage", status=400, body=json.dumps(body))
    house.flows.refresh(connection.id)
    assert house.connection(connection.id).revoked_reason == "refresh_rejected"
    [decision] = [each for each in house.decisions(connection.id) if each.verb == "revoked.refresh_rejected"]
    assert decision.evidence["hint"] == "[secret]"
    assert token not in json.dumps(house.told()) + str(house.decisions(connection.id))


def test_nothing_is_said_to_be_lost_while_redis_may_hold_it(house: House) -> None:
    connection = lose_an_answer(house)
    house.turn(seconds=SETTLE)
    away = replace(house.flows.refresh.parking, redis=absent_redis())
    with pytest.raises(ParkingUnavailable):
        replace(house.flows.refresh, parking=away)(connection.id)
    assert house.connection(connection.id).status == "active"


def test_a_parked_pair_brings_a_connection_back_that_was_given_up_as_lost(house: House) -> None:
    connection = house.refreshable()
    flow = house.flows.refresh
    taken = flow.take(connection.id)
    assert taken is not None
    called = flow.ask(taken)
    house.turn(seconds=SETTLE)
    house.sweep()
    assert house.connection(connection.id).revoked_reason == "rotation_lost"
    with pytest.raises(StoreUnavailable):
        replace(flow, store=Failing(house.store, StoreUnavailable("away"))).save_or_park(taken, called)  # type: ignore[arg-type]
    house.flows.recover_tokens()
    assert (house.connection(connection.id).status, house.connection(connection.id).generation) == ("active", 3)


superseded: dict[str, Callable[[House, Connection], object]] = {
    "disconnected": lambda house, connection: house.flows.disconnect(connection.id),
    "authorized again": lambda house, connection: house.connect("ada", 1, connection_id=connection.id),
}


@both_databases
@pytest.mark.parametrize("case", superseded)
def test_a_parked_pair_that_is_not_the_newest_truth_does_not_outlive_it(house: House, case: str) -> None:
    connection = park_a_pair(house)
    superseded[case](house, connection)
    before = house.connection(connection.id)
    assert house.flows.recover_tokens() == 0
    assert house.flows.refresh.parking.tickets() == []
    assert house.connection(connection.id) == before


@both_databases
def test_a_resolution_undoes_no_key_rotation_and_no_progress_of_a_sync(house: House) -> None:
    """Both rows are read again after the probe: what others wrote meanwhile stays."""
    connection = lose_an_answer(house)
    house.turn(seconds=SETTLE)
    rotated = Vault((new_key("k2"), *house.keys))
    noted = house.clock()

    def write_meanwhile(*_: Any) -> None:
        with house.store.writing() as tx:
            found = tx.connections.lock(connection.id)
            assert found is not None
            tx.connections.save(replace(found, last_synced_at=noted), found.generation)
        for field in fields:
            list(reseal(house.store, rotated, field, 10))

    probing = replace(house.flows.refresh, vault=rotated, parking=During(house.flows.refresh.parking, write_meanwhile))  # type: ignore[arg-type]
    fault = house.control.inject("api", status=500, count=None)
    probing(connection.id)
    house.control.remove_fault(fault)
    credential = house.credential(connection.id)
    assert credential.refresh_token is not None
    assert credential.refresh_token.text.startswith("v1.k2.")
    assert house.connection(connection.id).last_synced_at == noted


class During:
    """A parking that lets something happen whenever it is looked at."""

    def __init__(self, parking: Any, happens: Callable[..., None]) -> None:
        self.parking = parking
        self.happens = happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self.parking, name)

    def find(self, ticket: Ticket) -> Any:
        self.happens()
        return self.parking.find(ticket)


def test_one_more_presentation_waits_for_the_budget_too(house: House) -> None:
    connection = lose_an_answer(house)
    client = house.flows.refresh.providers["breezedoc"]
    client.provider = replace(client.provider, token_requests_per_minute=1)
    house.turn(seconds=SETTLE + 1)
    with house.store.writing() as tx:
        assert tx.paces.take("breezedoc", 1, "refresh", house.clock()) is None
    house.flows.refresh(connection.id)
    assert house.presentations() == 1
    assert house.credential(connection.id).lease_until is None
    house.turn(seconds=SETTLE + 1)
    house.sweep()
    assert house.presentations() == 2


@pytest.mark.parametrize("database", ["postgresql"])  # SQLite has no such switch
def test_a_database_that_only_reads_is_noticed_before_a_token_is_spent(house: House) -> None:
    connection = house.refreshable()
    with house.store.engine.connect() as sql:
        database = sql.execute(text("SELECT current_database()")).scalar_one()
        sql.execute(text(f"ALTER DATABASE {database} SET default_transaction_read_only = on"))
        sql.commit()
    house.store.engine.dispose()
    with pytest.raises(StoreUnavailable):
        house.flows.refresh(connection.id)
    assert house.presentations() == 0


@both_databases
@pytest.mark.parametrize("ahead", [-25, 25])
@pytest.mark.parametrize("reuse", ["harmless", "family_revoked"])
def test_workers_whose_clocks_differ_by_less_than_half_a_minute_present_once(
    house: House, ahead: int, reuse: str
) -> None:
    """The other worker looks at every second of its clock for as long as the first one may still be sending."""
    connection = house.refreshable()
    client = house.flows.refresh.providers["breezedoc"]
    client.provider = replace(client.provider, refresh_reuse=reuse)  # type: ignore[arg-type]
    house.control.set(refresh_reuse=reuse)
    clock: Any = Skewed(house, ahead)
    other = join_house(house.store, house.provider, client.provider, house.vault, clock, house.spool)
    taken = house.flows.refresh.take(connection.id)
    assert taken is not None
    sending, answering = 9, 20
    for _ in range(sending + answering):
        house.clock.turn(timedelta(seconds=1))
        other.flows.refresh(connection.id)
    assert house.presentations() == 0
    in_time = replace(taken.presentation, send_before=house.clock() + timedelta(seconds=1))
    still_sent = replace(taken, presentation=in_time)
    house.flows.refresh.save_or_park(taken, house.flows.refresh.ask(still_sent))
    other.flows.refresh(connection.id)
    assert (house.presentations(), house.connection(connection.id).generation) == (1, 3)
    other.close()


class Skewed:
    """A clock that goes right but stands wrong."""

    def __init__(self, house: House, ahead: int) -> None:
        self.house = house
        self.ahead = timedelta(seconds=ahead)

    def __call__(self) -> Any:
        return self.house.clock() + self.ahead
