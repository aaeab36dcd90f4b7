"""The request log: every call made for a user, whatever came of it, and nothing that was never sent."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from models.journal import Request
from tests.harness import House


def calls(house: House, subject: str) -> list[tuple[str, str, int]]:
    with house.store.reading() as tx:
        return [(each.method, each.path, each.status) for each in tx.journal.calls_of(subject)]


def test_a_connection_knows_the_calls_that_made_it(house: House) -> None:
    connection = house.connect("ada", 1)
    assert calls(house, connection.id) == [("POST", "/oauth/token", 200), ("GET", "/me", 200)]


def test_calls_made_before_the_account_was_known_are_not_lost_to_an_interruption(house: House) -> None:
    house.control.inject("api", status=500)
    authorization_id = house.consent()
    house.flows.exchange(authorization_id)
    assert calls(house, authorization_id) == [("POST", "/oauth/token", 200), ("GET", "/me", 500)]
    house.turn(minutes=2)
    house.sweep()
    with house.store.reading() as tx:
        found = tx.authorizations.get(authorization_id)
    assert found is not None
    assert found.connection_id is not None
    made_it = [("POST", "/oauth/token", 200), ("GET", "/me", 500), ("GET", "/me", 200)]
    assert calls(house, found.connection_id)[:3] == made_it
    assert calls(house, authorization_id) == []


def test_a_code_that_was_refused_leaves_its_call_with_the_authorization(house: House) -> None:
    authorization_id = house.consent()
    house.control.advance(timedelta(hours=1).total_seconds())
    house.flows.exchange(authorization_id)
    assert calls(house, authorization_id) == [("POST", "/oauth/token", 400)]


@pytest.mark.parametrize(("fault", "status"), [({"kind": "drop"}, 0), ({"status": 503}, 503), ({"status": 429}, 429)])
def test_a_refresh_stands_there_whatever_came_of_it(house: House, fault: dict[str, Any], status: int) -> None:
    connection = house.connect("ada", 1)
    before = len(calls(house, connection.id))
    house.make_refresh_due(connection.id)
    house.control.inject("token", moment="before", **fault)
    house.flows.refresh(connection.id)
    assert calls(house, connection.id)[before:] == [("POST", "/oauth/token", status)]


def test_the_probe_after_a_lost_answer_stands_there_too(house: House) -> None:
    connection = house.refreshable()
    house.control.inject("token", moment="after", kind="drop")
    house.flows.refresh(connection.id)
    before = len(calls(house, connection.id))
    house.turn(seconds=61)
    house.flows.refresh(connection.id)
    made = [("GET", "/me", 401), ("POST", "/oauth/token", 401)]
    assert calls(house, connection.id)[before:] == made


def test_what_was_never_sent_is_no_call(house: House) -> None:
    connection = house.connect("ada", 1)
    before = calls(house, connection.id)
    house.make_refresh_due(connection.id)
    client = house.flows.refresh.providers["breezedoc"]
    there, client.provider = client.provider, replace(client.provider, token_url="http://127.0.0.1:1/oauth/token")
    house.flows.refresh(connection.id)
    client.provider = there
    assert house.connection(connection.id).problem == "provider_unavailable"
    assert calls(house, connection.id) == before


def test_telling_the_provider_of_an_end_is_a_call_too(house: House) -> None:
    connection = house.connect("ada", 1)
    house.control.set(revocation_endpoint=True)
    client = house.flows.refresh.providers["breezedoc"]
    client.provider = replace(client.provider, revoke_url=f"{house.provider.url}/oauth/revoke")
    house.flows.disconnect(connection.id)
    house.work()
    assert calls(house, connection.id)[-1] == ("POST", "/oauth/revoke", 200)


def test_a_line_says_when_and_for_how_long(house: House) -> None:
    before = house.clock()
    connection = house.connect("ada", 1)
    with house.store.reading() as tx:
        line = tx.journal.calls_of(connection.id)[0]
    assert isinstance(line, Request)
    assert before <= line.at <= line.at + timedelta(milliseconds=line.duration_ms) <= house.clock()


def test_the_view_shows_each_call_of_a_sync_with_its_own_time(house: House) -> None:
    connection = house.connect("ada", 1)
    house.work()
    house.flows.sync(connection.id)
    with house.store.reading() as tx:
        made = tx.journal.calls_of(connection.id, limit=100)
        columns = "at, connection_id, method, path, status, duration_ms"
        rows = tx.sql.execute(
            text(f"SELECT {columns} FROM request_log WHERE connection_id = :id"), {"id": connection.id}
        )
        shown = sorted((_as_time(at), *rest) for at, *rest in rows)
        batches = tx.sql.execute(text("SELECT count(*) FROM request_batch")).scalar_one()
    assert batches < len(made)
    assert [row[1:] for row in shown] == [
        (each.connection_id, each.method, each.path, each.status, each.duration_ms)
        for each in sorted(made, key=lambda each: (each.at, each.connection_id, each.method, each.path))
    ]
    for (at, *_), each in zip(shown, sorted(made, key=lambda each: each.at), strict=True):
        assert abs(at - each.at) < timedelta(milliseconds=2)


def test_the_view_shows_when_a_request_was_made_although_the_clock_was_set_back(house: House) -> None:
    connection = house.connect("ada", 1)
    at = datetime(2026, 1, 2, 12, tzinfo=UTC)
    times = [at, at - timedelta(milliseconds=300), at + timedelta(milliseconds=1250), at - timedelta(hours=2)]
    with house.store.writing() as tx:
        tx.journal.log([Request(each, connection.id, "GET", "/set-back", 200, 1) for each in times])
    with house.store.reading() as tx:
        rows = tx.sql.execute(text("SELECT at FROM request_log WHERE path = '/set-back'")).scalars().all()
    assert sorted(map(_as_time, rows)) == sorted(times)


def _as_time(at: datetime | str) -> datetime:
    """SQLite gives times as texts."""
    return datetime.fromisoformat(at).replace(tzinfo=UTC) if isinstance(at, str) else at
