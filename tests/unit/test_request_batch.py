"""The requests of a job as one row."""

from datetime import UTC, datetime, timedelta

from models.journal import Request
from models.store.request_batch import pack, unpack

start = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def made(after_ms: int, connection_id: str = "c1", path: str = "/api/me") -> Request:
    return Request(start + timedelta(milliseconds=after_ms), connection_id, "GET", path, 200, 12)


def unpacked(requests: list[Request]) -> list[Request]:
    return [each for row in pack(requests) for each in unpack(**row)]  # type: ignore[arg-type]


def test_no_request_is_no_row() -> None:
    assert pack([]) == []


def test_requests_of_a_connection_are_one_row_and_come_back_in_their_order() -> None:
    requests = [made(0), made(0, path='/a"b\\c?ü=1'), made(86_400_000)]
    assert len(pack(requests)) == 1
    assert unpacked(requests) == requests


def test_each_connection_has_a_row_of_its_own() -> None:
    requests = [made(0), made(7, "c2"), made(9)]
    assert [row["connection_id"] for row in pack(requests)] == ["c1", "c2"]
    assert sorted(unpacked(requests), key=lambda each: each.at) == requests


def test_a_clock_set_back_does_not_matter() -> None:
    requests = [made(0), made(-1500)]
    assert unpacked(requests) == requests
