"""What is parked is found in either place, and what can't be known is never taken for nothing."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fakeredis
import pytest
from redis import Redis
from structlog.testing import capture_logs

from models.secrets import Secret
from models.token_pair import TokenPair
from models.token_response import TokensGranted
from models.vault import Vault, new_key
from worker.parking import Parking, ParkingUnavailable, Ticket, parked_key

ticket = Ticket("refresh", "c1", 7)
k1, k2 = new_key("k1"), new_key("k2")
away = Redis(host="127.0.0.1", port=1)


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
    with capture_logs() as lines, pytest.raises(ParkingUnavailable, match="put it back"):
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
