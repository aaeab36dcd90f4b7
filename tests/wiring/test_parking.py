"""What is parked is found in either place, and what can't be known is never taken for nothing."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from structlog.testing import capture_logs

from models.crypto.secrets import Secret
from models.crypto.vault import Vault, key_id, new_key
from models.oauth.token_pair import TokenPair
from models.oauth.token_response import TokensGranted
from tests.servers import absent_redis
from worker.tokens.spool import Parking, Ticket, Where, parked_key, places
from worker.tokens.spool_backends import ParkingUnavailable

ticket = Ticket("refresh", "c1", 7)
k1, k2 = new_key("k1"), new_key("k2")
away = absent_redis()


def pair_of(name: str) -> TokenPair:
    granted = TokensGranted(Secret(f"{name}-access"), Secret(f"{name}-refresh"), timedelta(hours=1), "read")
    return TokenPair(granted, datetime(2026, 1, 2, tzinfo=UTC))


@pytest.fixture
def parking(tmp_path: Path) -> Parking:
    return Parking(Vault((k1,)), fakeredis.FakeRedis(server=fakeredis.FakeServer()), tmp_path / "spool")


def spooled(parking: Parking) -> Path:
    return parking.spool / f"{ticket.name}.pair"


def test_nothing_parked_is_nothing_found(parking: Parking) -> None:
    assert parking.find(ticket) is None


def test_a_pair_in_either_place_is_found(parking: Parking) -> None:
    parking.park(ticket, pair_of("first"))
    assert replace(parking, redis=away).find(ticket) == pair_of("first")
    spooled(parking).unlink()
    assert parking.find(ticket) == pair_of("first")


def test_a_missing_key_is_told_and_is_not_nothing(parking: Parking) -> None:
    parking.park(ticket, pair_of("first"))
    with capture_logs() as lines, pytest.raises(ParkingUnavailable, match="add it to ENCRYPTION_KEYS"):
        replace(parking, vault=Vault((k2,))).find(ticket)
    assert ("pair.locked", "error") in {(line["event"], line["log_level"]) for line in lines}


def test_a_pair_that_is_damaged_in_both_places_is_told_and_is_nothing(parking: Parking) -> None:
    parking.park(ticket, pair_of("first"))
    spooled(parking).write_bytes(b"\xff")
    parking.redis.hset(parked_key, ticket.name, b"\xff")
    with capture_logs() as lines:
        assert parking.find(ticket) is None
    assert [line["event"] for line in lines] == ["pair.unreadable", "pair.unreadable"]


def test_a_pair_that_is_damaged_in_one_place_is_found_in_the_other(parking: Parking) -> None:
    parking.park(ticket, pair_of("first"))
    spooled(parking).write_bytes(b"\xff")
    assert parking.find(ticket) == pair_of("first")
    with pytest.raises(ParkingUnavailable):
        replace(parking, redis=away).find(ticket)


def test_a_spool_that_can_not_be_read_is_not_nothing(parking: Parking) -> None:
    spooled(parking).mkdir(parents=True)
    with pytest.raises(ParkingUnavailable, match="can't be read"):
        parking.find(ticket)
    parking.park(ticket, pair_of("first"))
    assert parking.find(ticket) == pair_of("first")


def rotating(parking: Parking) -> Parking:
    return replace(parking, vault=Vault((k2, k1)))


@pytest.mark.parametrize("where", places)
def test_a_parked_pair_is_sealed_anew_in_its_place(parking: Parking, where: Where) -> None:
    parking.park(ticket, pair_of("first"))
    [found] = parking.seals(where)
    assert rotating(parking).reseal(found)
    keys = {place: [key_id(each.sealed) for each in parking.seals(place)] for place in places}
    assert keys == {place: ["k2" if place == where else "k1"] for place in places}
    assert rotating(parking).find(ticket) == pair_of("first")
    assert list(parking.spool.iterdir()) == [spooled(parking)]


def test_a_pair_needs_its_key_unless_its_other_copy_opens(parking: Parking) -> None:
    parking.park(ticket, pair_of("first"))
    assert parking.count_locked(["v1.k2."]) == {"k1": 1}
    assert replace(parking, redis=away).count_locked(["v1.k2."]) == {"k1": 1}
    rotating(parking).reseal(parking.seals("redis")[0])
    assert parking.count_locked(["v1.k2."]) == {}
    assert parking.count_locked(["v1.k1."]) == {}
    assert parking.count_locked([]) == {"k1": 1, "k2": 1}


@pytest.mark.parametrize("where", places)
def test_a_pair_that_was_taken_in_meanwhile_does_not_come_back(parking: Parking, where: Where) -> None:
    parking.park(ticket, pair_of("first"))
    [found] = parking.seals(where)
    parking.drop(ticket)
    assert not rotating(parking).reseal(found)
    assert (parking.tickets(), list(parking.spool.iterdir())) == ([], [])


@pytest.mark.parametrize("where", places)
def test_a_pair_that_was_parked_anew_meanwhile_is_left_as_it_is(parking: Parking, where: Where) -> None:
    parking.park(ticket, pair_of("first"))
    [found] = parking.seals(where)
    parking.park(ticket, pair_of("second"))
    assert not rotating(parking).reseal(found)
    assert parking.find(ticket) == pair_of("second")


def test_a_pair_that_is_taken_in_in_the_midst_of_it_does_not_come_back_either(parking: Parking) -> None:
    """Whoever drops it comes between the look and the write: Redis notices."""
    parking.park(ticket, pair_of("first"))
    [found] = parking.seals("redis")

    class Interrupted(fakeredis.FakeRedis):
        def transaction(self, func: Any, *watches: Any, **options: Any) -> Any:
            def interrupted(pipe: Any) -> Any:
                answer = func(pipe)
                parking.drop(ticket)
                return answer

            return super().transaction(interrupted, *watches, **options)

    server = parking.redis.connection_pool.connection_kwargs["server"]
    assert not replace(rotating(parking), redis=Interrupted(server=server)).reseal(found)
    assert parking.seals("redis") == []


def test_a_place_that_is_away_says_so_and_the_other_one_is_read(parking: Parking) -> None:
    parking.park(ticket, pair_of("first"))
    without = replace(parking, redis=away)
    assert [each.ticket for each in without.seals("spool")] == without.tickets() == [ticket]
    with pytest.raises(ParkingUnavailable):
        without.seals("redis")


def test_two_that_park_at_once_do_not_get_in_each_others_way(parking: Parking) -> None:
    """The one that took too long, and the one that failed: both park the same pair."""
    gate = threading.Barrier(8)

    def park() -> bool:
        gate.wait()
        return replace(parking, redis=away).park(ticket, pair_of("first"))

    with ThreadPoolExecutor(8) as pool:
        assert all(each.result() for each in [pool.submit(park) for _ in range(8)])
    assert replace(parking, redis=away).find(ticket) == pair_of("first")
    assert list(parking.spool.iterdir()) == [spooled(parking)]
