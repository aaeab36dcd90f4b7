"""What an operator finds without a whole id, what a problem narrows down, and what is asked before records go."""

import json
from dataclasses import replace

import pytest
from sqlalchemy import text

from tests.cli.conftest import Desk


def test_the_beginning_of_an_id_is_enough(either_desk: Desk) -> None:
    desk = either_desk
    connection = desk.house.connect("ada", 1)
    assert desk.read("explain", connection.id[:10])["connection"]["id"] == connection.id
    begun = desk.house.consent("bob", 2)
    assert desk.read("explain", begun[:10])["authorization"]["id"] == begun
    assert desk.type("explain", connection.id[:3]).exit_code == 3, "three letters are too few"
    assert desk.type("explain", "%%%%").exit_code == 3


def test_a_beginning_of_several_ids_names_them(desk: Desk) -> None:
    found = desk.house.connect("ada", 1)
    with desk.house.store.writing() as tx:
        for id_ in ("abcd0", "abcd1"):
            tx.connections.add(replace(found, id=id_, account_id=id_))
    result = desk.type("explain", "abcd")
    assert result.exit_code == 1
    assert "abcd0, abcd1" in result.stderr


def test_a_user_is_explained(desk: Desk) -> None:
    begun = desk.house.consent("ada", 1)
    [report] = desk.read("explain", "--user", "ada")
    assert report["authorization"]["id"] == begun
    desk.house.connect("ada", 1)
    desk.house.connect("ada", 2)
    assert {report["connection"]["user_id"] for report in desk.read("explain", "--user", "ada")} == {"ada"}
    assert len(desk.read("explain", "--user", "ada")) == 2
    assert desk.type("explain", "--user", "ada").stdout.count("Decisions") == 2


def test_connections_with_a_problem_are_listed(desk: Desk) -> None:
    ada, _ = desk.house.connect("ada", 1), desk.house.connect("bob", 2)
    with desk.house.store.writing() as tx:
        tx.sql.execute(text("UPDATE connection SET problem = 'plan_required' WHERE id = :id"), {"id": ada.id})
    assert [each["id"] for each in desk.read("connections", "--problem", "plan_required")] == [ada.id]
    assert [each["id"] for each in desk.read("connections", "--problem", "any")] == [ada.id]
    assert desk.read("connections", "--problem", "held") == []
    assert desk.read("status")["problems"] == {"plan_required": 1}
    assert "active (1 plan_required)" in desk.type("status").stdout


def test_the_oldest_of_very_many_connections_come_first(desk: Desk) -> None:
    ids = [desk.house.connect(user, account).id for user, account in (("ada", 1), ("grace", 2), ("alan", 1))]
    with desk.house.store.writing() as tx:
        tx.sql.execute(text("UPDATE connection SET problem = 'plan_required'"))
        tx.sql.execute(text("UPDATE connection SET status = 'revoked' WHERE id = :id"), {"id": ids[1]})
    for looked_at in (1, 2, 3):
        desk.monkeypatch.setattr("models.store.search.most_looked_at", looked_at)
        for words in (("--problem", "any", "--status", "active"), ("--problem", "plan_required", "--status", "active")):
            assert [each["id"] for each in desk.read("connections", *words)] == [ids[0], ids[2]]
        assert [each["id"] for each in desk.read("connections", "--provider", "breezedoc")] == ids
        assert desk.read("connections", "--status", "revoked", "--provider", "other") == []
    desk.monkeypatch.setattr("models.store.search.most_looked_at", 1)
    desk.monkeypatch.setattr("worker.cli.subjects.most_searches", 2)
    cut = desk.type("connections", "--problem", "any", "--status", "active", "--json")
    assert ([each["id"] for each in json.loads(cut.stdout)], "only the oldest" in cut.stderr) == ([ids[0]], True)


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_records_are_not_erased_unasked(desk: Desk, words: tuple[str, ...]) -> None:
    connection = desk.house.connect("ada", 1)
    desk.house.work()
    result = desk.type("disconnect", connection.id, "--erase", *words)
    assert result.exit_code == 2
    assert "12 document" in result.stderr
    assert "--yes" in result.stderr
    assert desk.redis.dbsize() == 0
    with desk.house.store.reading() as tx:
        assert tx.connections.pending_disconnect(connection.id) is None


def test_the_records_of_a_first_sync_share_a_line(desk: Desk) -> None:
    connection = desk.house.connect("ada", 1)
    desk.house.work()
    lines = desk.type("events").stdout.splitlines()
    records = [line for line in lines if "record.created" in line]
    assert len(records) < 5
    assert any("12 document" in line for line in records), lines
    assert len(desk.type("events", "--limit", "1").stdout.splitlines()) == 1
    documents = desk.type("events", "--limit", "7", "--json").stdout.splitlines()
    assert len(documents) == 7
    assert json.loads(documents[-1])["data"]["connection_id"] == connection.id
